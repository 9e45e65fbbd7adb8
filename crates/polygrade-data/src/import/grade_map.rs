//! Grades of a source → grades of the collection (`--map`).
//!
//! What annotators' grades mean can be decided after annotation (arXiv 2305.14770), without judging again.

use crate::io::plain_name;
use std::fmt;
use std::path::Path;

/// How grades are replaced; nothing is, by default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GradeMap {
    /// The first whose file fits decides.
    maps: Vec<Map>,
}

#[derive(Debug, Clone, PartialEq)]
struct Map {
    /// The name of the files that it is for; all where `None`.
    file: Option<String>,
    /// Lowest and highest old grade, and the new one; the first that fits decides.
    ranges: Vec<(f32, f32, f32)>,
    /// Whether grades that no range holds stay as they are.
    rest_stays: bool,
    /// Whether a grade of its files came by.
    used: bool,
}

impl GradeMap {
    /// Adds a map: `[FILE:]OLD=NEW,…`, where OLD is a grade or a range `LOW..HIGH` with both ends, and a last `*` lets
    /// grades that are not named stay. Maps with a file go before those without. `None` where the text is none, or names a
    /// grade twice.
    pub fn add(&mut self, text: &str) -> Option<()> {
        let (file, pairs) = match text.rsplit_once(':') {
            Some((file, pairs)) if !file.is_empty() => (Some(file.to_owned()), pairs),
            Some(_) => return None,
            None => (None, text),
        };
        let mut map = Map { file, ranges: Vec::new(), rest_stays: false, used: false };
        let number = |t: &str| t.trim().parse::<f32>().ok().filter(|x| x.is_finite());
        for part in pairs.split(',').map(str::trim) {
            if part == "*" {
                map.rest_stays = true;
                continue;
            }
            let (old, new) = part.split_once('=')?;
            let (low, high) = match old.split_once("..") {
                Some((low, high)) => (number(low)?, number(high)?),
                None => (number(old)?, number(old)?),
            };
            let again = |(l, h, _): &(f32, f32, f32)| low <= *h && *l <= high;
            if low > high || map.ranges.iter().any(again) {
                return None;
            }
            map.ranges.push((low, high, number(new)?));
        }
        let at = self.maps.iter().position(|m| m.file.is_none()).unwrap_or(self.maps.len());
        self.maps.insert(if map.file.is_some() { at } else { self.maps.len() }, map);
        Some(())
    }

    /// What a grade in a file becomes; `None` where the file's map does not name it.
    pub fn of(&mut self, path: &Path, grade: f32) -> Option<f32> {
        let fits = |m: &&mut Map| {
            let named = |file: &String| path.ends_with(file) || plain_name(path) == *file;
            m.file.as_ref().is_none_or(named)
        };
        let Some(map) = self.maps.iter_mut().find(fits) else {
            return Some(grade);
        };
        map.used = true;
        let new = map.ranges.iter().find(|(low, high, _)| (*low..=*high).contains(&grade));
        new.map(|(_, _, new)| *new).or(map.rest_stays.then_some(grade))
    }

    /// The files that maps are for and that no grade came from.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        self.maps.iter().filter(|m| !m.used).filter_map(|m| m.file.as_deref())
    }

    /// The maps as they are written.
    pub fn to_strings(&self) -> Vec<String> {
        self.maps.iter().map(Map::to_string).collect()
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
        }
        for (i, (low, high, new)) in self.ranges.iter().enumerate() {
            f.write_str(if i > 0 { "," } else { "" })?;
            match low == high {
                true => write!(f, "{low}={new}")?,
                false => write!(f, "{low}..{high}={new}")?,
            }
        }
        if self.rest_stays {
            f.write_str(if self.ranges.is_empty() { "*" } else { ",*" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grades_ranges_files_and_the_rest() {
        let mut map = GradeMap::default();
        let (a, b) = (Path::new("x/a.tsv"), Path::new("x/b.tsv.gz"));
        assert_eq!(map.of(a, 7.0), Some(7.0), "no map changes nothing");
        map.add("0..1.5=0, 2=1,3=3").unwrap();
        map.add("b.tsv:-1=0,*").unwrap();
        assert_eq!(map.unused().collect::<Vec<_>>(), ["b.tsv"]);
        for (old, new) in
            [(0.0, Some(0.0)), (1.5, Some(0.0)), (1.75, None), (2.0, Some(1.0)), (3.0, Some(3.0))]
        {
            assert_eq!(map.of(a, old), new, "{old}");
        }
        assert_eq!((map.of(b, -1.0), map.of(b, 1.75)), (Some(0.0), Some(1.75)));
        assert_eq!(map.unused().next(), None);
        let written = map.to_strings();
        assert_eq!(written, ["b.tsv:-1=0,*", "0..1.5=0,2=1,3=3"]);
        let mut again = GradeMap::default();
        written.iter().for_each(|m| again.add(m).unwrap());
        assert_eq!(again.to_strings(), written);
        for bad in
            ["", "1", "1=", "=1", "1=x", "3..1=0", "1..=0", ":1=0", "NaN=1", "1=inf", "0..2=0,1=1", "1=1,1=2"]
        {
            assert_eq!(GradeMap::default().add(bad), None, "{bad}");
        }
    }
}
