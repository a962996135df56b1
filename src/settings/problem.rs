//! One thing that is wrong with a site.

use std::fmt;

/// A problem of a site's configuration: where it is, what is wrong, what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// File of the site, relative to its folder.
    pub file: String,
    /// Key, or line and column, within the file.
    pub key: String,
    /// What is wrong; never the content of a secret.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Problem {
    /// A problem at `key` of `file`.
    pub fn new(file: &str, key: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Problem { file: file.to_owned(), key: key.into(), what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}; {}", self.file, self.key, self.what, self.remedy)
    }
}
