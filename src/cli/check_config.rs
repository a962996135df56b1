//! `check-config`: every problem of a site at once.

use super::{CliError, SiteArgs};

pub(super) fn run(site: &SiteArgs) -> Result<(), CliError> {
    match site.load() {
        Err(CliError::Site(problems)) => {
            for problem in &problems {
                println!("{problem}");
            }
            Err(CliError::Usage(format!("{} problem(s) found", problems.len())))
        }
        other => other.map(|_| ()),
    }
}
