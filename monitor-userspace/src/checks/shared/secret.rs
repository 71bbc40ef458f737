//! Passwords of checks: from a file or from the environment of the daemon, never from the configuration itself. Read anew each time.

use std::path::{Path, PathBuf};

use super::files;
use crate::host::secret::first_line;
use crate::model::CheckFailure;

/// Whether these two settings make sense.
pub(super) fn sensible(file: Option<&Path>, environment: Option<&str>) -> Result<(), String> {
    match (file, environment) {
        (Some(_), Some(_)) => Err("give `password_file` or `password_env`, not both".to_owned()),
        (Some(file), None) if !file.is_absolute() => {
            Err("`password_file` must be an absolute path".to_owned())
        }
        (None, Some(name)) if name.is_empty() || name.contains(['=', '\0']) => Err(
            "`password_env` is the name of an environment variable, like \"DB_PASSWORD\""
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

/// The password; none where none is configured.
pub(super) async fn read(
    file: Option<&PathBuf>,
    environment: Option<&str>,
) -> Result<Option<Vec<u8>>, CheckFailure> {
    if let Some(name) = environment {
        let value = std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec);
        return match value {
            Some(value) if !value.is_empty() => Ok(Some(value)),
            _ => Err(CheckFailure::Answer(format!(
                "the daemon's environment variable `{name}`, which is to hold the password, is not set"
            ))),
        };
    }
    let Some(file) = file.cloned() else {
        return Ok(None);
    };
    let path = file.clone();
    let read = files::off_thread(&path, move || first_line(&file)).await;
    read.map(Some).map_err(CheckFailure::Answer)
}
