//! stub
use crate::ui::Ui;
use polygrade_data::Result;
#[derive(clap::Args)]
pub(crate) struct Args {}
pub(crate) fn run(_: Args, _: &Ui) -> Result<()> { Ok(()) }
