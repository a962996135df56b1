//! A file that is written in large pieces at known places.
//!
//! The matrices are larger than what a machine may want in its page cache, and nobody reads them while
//! they are written. So, where the file system allows, whole blocks go past the cache (`O_DIRECT`), and
//! only the ragged ends of a piece go through it. No block takes both ways: neighbours may be written at
//! the same time by different threads.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::learn::LearnError;

/// Place and size of what goes past the cache are multiples of this: of any disk's block, and of a page
/// of any machine, since the cache knows only pages.
const BLOCK: usize = 64 * 1024;

/// `O_DIRECT`, where it is known.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const DIRECT: Option<i32> = Some(0o40_000);
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
const DIRECT: Option<i32> = Some(0o200_000);
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
const DIRECT: Option<i32> = None;

/// A file of known length, open for writing.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    file: File,
    /// The same file, past the cache; none where the file system has no such way.
    direct: Option<File>,
}

/// Memory from which blocks can go past the cache, used again and again.
#[derive(Default, Debug)]
pub(super) struct Blocks(Vec<u8>);

impl Target {
    /// Makes a file of `length` zeros.
    pub(super) fn create(path: PathBuf, length: u64) -> Result<Self, LearnError> {
        let file = File::create(&path).map_err(LearnError::io(&path))?;
        file.set_len(length).map_err(LearnError::io(&path))?;
        Ok(Target { direct: direct(&path), path, file })
    }

    /// Writes a small piece.
    pub(super) fn write(&self, bytes: &[u8], at: u64) -> Result<(), LearnError> {
        self.file.write_all_at(bytes, at).map_err(LearnError::io(&self.path))
    }

    fn write_blocks(&self, blocks: &[u8], at: u64) -> Result<(), LearnError> {
        if let Some(direct) = &self.direct {
            match direct.write_all_at(blocks, at) {
                // A file system that opens the way and then refuses it.
                Err(error) if error.kind() == ErrorKind::InvalidInput => {}
                written => return written.map_err(LearnError::io(&self.path)),
            }
        }
        self.write(blocks, at)
    }
}

fn direct(path: &Path) -> Option<File> {
    OpenOptions::new().write(true).custom_flags(DIRECT?).open(path).ok()
}

impl Blocks {
    /// Writes a large piece into each target, at the same place.
    pub(super) fn write<'a>(
        &mut self,
        targets: impl Iterator<Item = &'a Target>,
        bytes: &[u8],
        at: u64,
    ) -> Result<(), LearnError> {
        let before = (at.next_multiple_of(BLOCK as u64) - at) as usize;
        let (head, rest) = bytes.split_at(before.min(bytes.len()));
        let (body, tail) = rest.split_at(rest.len() / BLOCK * BLOCK);
        let body_at = at + head.len() as u64;
        let body = self.aligned(body);
        for target in targets {
            target.write(head, at)?;
            target.write_blocks(body, body_at)?;
            target.write(tail, body_at + body.len() as u64)?;
        }
        Ok(())
    }

    /// A copy that begins where a page begins.
    fn aligned(&mut self, bytes: &[u8]) -> &[u8] {
        const PAGE: usize = 4096;
        if self.0.len() < bytes.len() + PAGE {
            self.0.resize(bytes.len() + PAGE, 0);
        }
        let begin = self.0.as_ptr().align_offset(PAGE);
        let copy = &mut self.0[begin..begin + bytes.len()];
        copy.copy_from_slice(bytes);
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_at_any_place_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let sizes = [1, 63 * 1024, 300_001, 0, BLOCK, 3 * BLOCK - 1, 2 * BLOCK, 700_000];
        let bytes: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|i| (i * i / 7 + i / 251) as u8).collect();
        for first in [0, 61, BLOCK] {
            let targets =
                ["a", "b"].map(|name| Target::create(folder.path().join(name), (first + bytes.len()) as u64).unwrap());
            let mut pieces = Vec::new();
            let mut begin = 0;
            for size in sizes {
                pieces.push((begin, &bytes[begin..begin + size]));
                begin += size;
            }
            // Neighbours are written at the same time, and the last comes first.
            std::thread::scope(|scope| {
                for half in [0, 1] {
                    let (pieces, targets) = (&pieces, &targets);
                    scope.spawn(move || {
                        let mut blocks = Blocks::default();
                        for (begin, piece) in pieces.iter().skip(half).step_by(2).rev() {
                            blocks.write(targets.iter(), piece, (first + begin) as u64).unwrap();
                        }
                    });
                }
            });
            for target in &targets {
                let written = std::fs::read(&target.path).unwrap();
                assert!(written[..first].iter().all(|&byte| byte == 0) && written[first..] == bytes);
            }
        }
    }

    #[test]
    fn a_file_system_without_a_way_past_the_cache_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let mut target = Target::create(folder.path().join("a"), 200_000).unwrap();
        target.direct = None;
        let bytes: Vec<u8> = (0..200_000_u32).map(|i| i as u8).collect();
        Blocks::default().write(std::iter::once(&target), &bytes, 0).unwrap();
        assert!(std::fs::read(&target.path).unwrap() == bytes);
    }
}
