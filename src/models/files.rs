//! The files of a bundle, and the manifest that vouches for them.
//!
//! `manifest.json` names the format and the sha256 of every file; the bundle's own sha256
//! is that of the manifest, so one hash fixes everything. It is written last: a folder
//! whose writing was cut off has none, or one that does not match.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{FORMAT, ModelError};

/// The card.
pub(super) const CARD: &str = "card.json";
/// The preprocessing.
pub(super) const PREPROCESS: &str = "preprocess.json";
/// The model; XGBoost JSON for boosting.
pub(super) const MODEL: &str = "model.json";
/// Hashes of the others.
pub(super) const MANIFEST: &str = "manifest.json";
/// The files that a manifest names, all of them needed.
const PARTS: [&str; 3] = [CARD, MODEL, PREPROCESS];

/// Largest manifest.
const MANIFEST_LIMIT: u64 = 1 << 16;
/// Largest other file.
const PART_LIMIT: u64 = 1 << 28;

/// Contents of the files besides the manifest, by name.
pub(super) type Parts = BTreeMap<&'static str, Vec<u8>>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    /// Hex sha256 by name.
    files: BTreeMap<String, String>,
}

/// The manifest of some files, and its sha256: the bundle's.
///
/// # Errors
/// A file too large to be read back.
pub(super) fn seal(parts: &Parts) -> Result<(Vec<u8>, String), ModelError> {
    if let Some((file, _)) = parts.iter().find(|(_, bytes)| bytes.len() as u64 > PART_LIMIT) {
        return Err(ModelError::TooLarge { file, limit: PART_LIMIT });
    }
    let files = parts.iter().map(|(name, bytes)| ((*name).to_owned(), sha256(bytes))).collect();
    let manifest =
        serde_json::to_vec_pretty(&Manifest { format: FORMAT, files }).map_err(|e| ModelError::corrupt(MANIFEST, e))?;
    let hash = sha256(&manifest);
    Ok((manifest, hash))
}

/// Checks a manifest, then fetches and checks every file it names.
///
/// # Errors
/// An unknown format, a name that does not belong, a missing file, a wrong hash.
pub(super) fn open(
    manifest: &[u8],
    mut fetch: impl FnMut(&'static str) -> Result<Vec<u8>, ModelError>,
) -> Result<Parts, ModelError> {
    /// What every format's manifest has.
    #[derive(Deserialize)]
    struct Version {
        format: u64,
    }
    let corrupt = |e: serde_json::Error| ModelError::corrupt(MANIFEST, e);
    let Version { format } = serde_json::from_slice(manifest).map_err(corrupt)?;
    if format != u64::from(FORMAT) {
        return Err(ModelError::Format { found: format, supported: FORMAT });
    }
    let Manifest { files, .. } = serde_json::from_slice(manifest).map_err(corrupt)?;
    if let Some(name) = files.keys().find(|name| !PARTS.contains(&name.as_str())) {
        return Err(ModelError::corrupt(MANIFEST, format!("it names '{name}', which belongs to no bundle")));
    }
    PARTS
        .into_iter()
        .map(|name| {
            let Some(hash) = files.get(name) else {
                return Err(ModelError::corrupt(MANIFEST, format!("it does not name {name}")));
            };
            let bytes = fetch(name)?;
            if bytes.len() as u64 > PART_LIMIT {
                return Err(ModelError::TooLarge { file: name, limit: PART_LIMIT });
            }
            if sha256(&bytes) != *hash {
                return Err(ModelError::Hash { file: name });
            }
            Ok((name, bytes))
        })
        .collect()
}

/// Writes a bundle into a folder, which is made if need be; the manifest last.
pub(super) fn write(folder: &Path, parts: &Parts, manifest: &[u8]) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder).map_err(|e| io(folder, e))?;
    let files = parts.iter().map(|(name, bytes)| (*name, bytes.as_slice())).chain([(MANIFEST, manifest)]);
    for (name, bytes) in files {
        let (path, half) = (folder.join(name), folder.join(format!("{name}.part")));
        let written = File::create(&half)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&half, &path));
        written.map_err(|e| io(&path, e))?;
    }
    Ok(())
}

/// Reads one file of a folder, no more of it than its bound.
pub(super) fn read(folder: &Path, name: &'static str) -> Result<Vec<u8>, ModelError> {
    let limit = if name == MANIFEST { MANIFEST_LIMIT } else { PART_LIMIT };
    let path = folder.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(ModelError::Missing { file: name }),
        Err(e) => return Err(io(&path, e)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| io(&path, e))?;
    if bytes.len() as u64 > limit {
        return Err(ModelError::TooLarge { file: name, limit });
    }
    Ok(bytes)
}

fn io(path: &Path, source: std::io::Error) -> ModelError {
    ModelError::Io { at: path.display().to_string(), source }
}

/// Lower-case hex.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_sha256() {
        // FIPS 180-4, example "abc".
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), want);
    }
}
