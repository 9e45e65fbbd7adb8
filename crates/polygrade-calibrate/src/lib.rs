//! the threshold race and its report
