//! `get_file_info`.

use super::Refusal;
use super::roots::Place;
use crate::domain::Timestamp;
use cap_std::fs::{MetadataExt, PermissionsExt};
use std::time::{SystemTime, UNIX_EPOCH};

/// One `key: value` per line: size, times (RFC 3339, UTC), kind and permissions in octal.
pub(super) fn lines(place: &Place<'_>) -> Result<String, Refusal> {
    let found = place.metadata()?;
    let changed = found.modified().map(cap_std::time::SystemTime::into_std).ok();
    // Not every file system knows when a file was created.
    let created = found.created().map(cap_std::time::SystemTime::into_std).ok().or(changed);
    let accessed = found.accessed().map(cap_std::time::SystemTime::into_std).ok();
    let lines = [
        format!("size: {}", found.size()),
        format!("created: {}", stamp(created)),
        format!("modified: {}", stamp(changed)),
        format!("accessed: {}", stamp(accessed)),
        format!("isDirectory: {}", found.is_dir()),
        format!("isFile: {}", found.is_file()),
        format!("permissions: {:03o}", found.permissions().mode() & 0o777),
    ];
    Ok(lines.join("\n"))
}

fn stamp(time: Option<SystemTime>) -> String {
    let millis = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let millis = millis.and_then(|since| i64::try_from(since.as_millis()).ok());
    millis.map_or_else(|| "unknown".to_owned(), |millis| Timestamp::from_millis(millis).to_string())
}
