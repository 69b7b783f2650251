//! `read_media_file`.

use super::roots::Place;
use super::{Refusal, read};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::path::Path;
use url::Url;

/// The largest file that is given as a block: in base64 it is a third larger, and it stands in the result twice.
const MAX_MEDIA_BYTES: u64 = 5 * 1024 * 1024;

/// The kinds of files that MCP has blocks of their own for.
const KINDS: [(&str, &str); 11] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("bmp", "image/bmp"),
    ("svg", "image/svg+xml"),
    ("mp3", "audio/mpeg"),
    ("wav", "audio/wav"),
    ("ogg", "audio/ogg"),
    ("flac", "audio/flac"),
];

/// The file in base64, as an image or audio block by its extension, and as an embedded resource where that says neither.
pub(super) fn block(place: &Place<'_>) -> Result<Value, Refusal> {
    let path = place.real_path()?;
    let data = STANDARD.encode(read::bytes(place, MAX_MEDIA_BYTES, "in base64")?);
    Ok(match mime_type(&path) {
        Some(kind) if kind.starts_with("image/") => json!({ "type": "image", "data": data, "mimeType": kind }),
        Some(kind) => json!({ "type": "audio", "data": data, "mimeType": kind }),
        None => {
            let uri = Url::from_file_path(&path).map_or_else(|()| path.display().to_string(), |url| url.to_string());
            let resource = json!({ "uri": uri, "mimeType": "application/octet-stream", "blob": data });
            json!({ "type": "resource", "resource": resource })
        }
    })
}

fn mime_type(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?.to_lowercase();
    KINDS.iter().find(|(known, _)| *known == extension).map(|(_, kind)| *kind)
}
