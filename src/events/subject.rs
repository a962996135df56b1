//! From an identifier to a pseudonym and, for whoever may act on an alert, back.
//!
//! The pseudonym is a keyed hash: without the site's key nobody can try identifiers
//! against it. The way back is a token, sealed by deterministic authenticated
//! encryption (AES-SIV, RFC 5297) under the same key; equal identifiers give equal
//! tokens, so that a redelivered token is the same event.

use std::fmt;
use std::fmt::Write as _;

use aes_siv::KeyInit as _;
use aes_siv::siv::Aes256Siv;

use super::{EventKey, EventsError, SubjectId};

/// Shortest key that is accepted, in bytes.
const KEY_BYTES: usize = 16;

/// The secret side of pseudonyms. Cheap to clone, never printed.
#[derive(Clone)]
pub struct Pseudonyms {
    subject: [u8; 32],
    encounter: [u8; 32],
    event: [u8; 32],
    seal: [u8; 64],
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonyms")
    }
}

impl Pseudonyms {
    /// Derives the keys of a site from its one secret.
    ///
    /// # Errors
    /// If the secret has fewer than 16 bytes.
    pub fn new(secret: &[u8]) -> Result<Self, EventsError> {
        if secret.len() < KEY_BYTES {
            return Err(EventsError::ShortKey(secret.len()));
        }
        let derive = |purpose| blake3::derive_key(purpose, secret);
        let mut seal = [0; 64];
        seal[..32].copy_from_slice(&derive("auscult 2026 token mac"));
        seal[32..].copy_from_slice(&derive("auscult 2026 token cipher"));
        Ok(Pseudonyms {
            subject: derive("auscult 2026 subject"),
            encounter: derive("auscult 2026 encounter"),
            event: derive("auscult 2026 event"),
            seal,
        })
    }

    /// Pseudonym of (assigner, identifier).
    pub fn subject(&self, assigner: &str, identifier: &str) -> SubjectId {
        let hash = keyed(&self.subject, [assigner.as_bytes(), identifier.as_bytes()].into_iter());
        let mut head = [0; 8];
        head.copy_from_slice(&hash[..8]);
        SubjectId(i64::from_le_bytes(head))
    }

    /// Pseudonym of a subject's encounter, 16 hexadecimal digits.
    pub fn encounter(&self, subject: SubjectId, identifier: &str) -> String {
        let hash = keyed(&self.encounter, [subject.0.to_le_bytes().as_slice(), identifier.as_bytes()].into_iter());
        let mut text = String::with_capacity(16);
        for byte in &hash[..8] {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Key of a source fact of a subject, from the parts that identify it at its source.
    pub fn event_key(&self, subject: SubjectId, parts: &[&[u8]]) -> EventKey {
        let hash = keyed(&self.event, std::iter::once(subject.0.to_le_bytes().as_slice()).chain(parts.iter().copied()));
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        EventKey(key)
    }

    /// Seals (assigner, identifier) into a token of hexadecimal digits.
    ///
    /// # Errors
    /// Only if the cipher refuses, which it does for inputs of many gigabytes.
    pub fn seal(&self, assigner: &str, identifier: &str) -> Result<String, EventsError> {
        let plain = format!("{assigner}\u{1f}{identifier}");
        let sealed = Aes256Siv::new(&self.seal.into())
            .encrypt([b"auscult token".as_slice()], plain.as_bytes())
            .map_err(|_| EventsError::Token)?;
        let mut text = String::with_capacity(sealed.len() * 2);
        for byte in sealed {
            let _ = write!(text, "{byte:02x}");
        }
        Ok(text)
    }

    /// Opens a token into (assigner, identifier).
    ///
    /// # Errors
    /// If it was not sealed under this site's key.
    pub fn open(&self, token: &str) -> Result<(String, String), EventsError> {
        let bytes = token
            .as_bytes()
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .collect::<Option<Vec<u8>>>()
            .ok_or(EventsError::Token)?;
        let plain = Aes256Siv::new(&self.seal.into())
            .decrypt([b"auscult token".as_slice()], &bytes)
            .map_err(|_| EventsError::Token)?;
        let plain = String::from_utf8(plain).map_err(|_| EventsError::Token)?;
        let (assigner, identifier) = plain.split_once('\u{1f}').ok_or(EventsError::Token)?;
        Ok((assigner.to_owned(), identifier.to_owned()))
    }
}

/// The owner partition of a subject in `auscult.events`, below `partitions`.
pub fn bucket(subject: SubjectId, partitions: u32) -> u32 {
    (subject.0 as u64 % u64::from(partitions.max(1))) as u32
}

/// Keyed hash of parts, each preceded by its length so that no two lists of parts are the same bytes.
fn keyed<'a>(key: &[u8; 32], parts: impl Iterator<Item = &'a [u8]>) -> [u8; 32] {
    // Most facts' parts fit, and one call over a buffer is several times cheaper than blake3's hasher.
    let mut short = [0; 256];
    let mut long = Vec::new();
    let mut used = 0;
    for part in parts {
        for bytes in [(part.len() as u64).to_le_bytes().as_slice(), part] {
            match short.get_mut(used..used + bytes.len()) {
                Some(room) if long.is_empty() => room.copy_from_slice(bytes),
                _ => {
                    if long.is_empty() {
                        long.extend_from_slice(&short[..used]);
                    }
                    long.extend_from_slice(bytes);
                }
            }
            used += bytes.len();
        }
    }
    let bytes = if long.is_empty() { &short[..used] } else { &long[..] };
    *blake3::keyed_hash(key, bytes).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(secret: &str) -> Pseudonyms {
        Pseudonyms::new(secret.as_bytes()).unwrap()
    }

    #[test]
    fn pseudonyms_depend_on_key_assigner_and_identifier() {
        let (a, b) = (site("a secret of a site"), site("the secret of others"));
        assert_eq!(a.subject("x", "1"), a.subject("x", "1"));
        assert_ne!(a.subject("x", "1"), b.subject("x", "1"));
        assert_ne!(a.subject("x", "1"), a.subject("y", "1"));
        assert_ne!(a.subject("x", "12"), a.subject("x1", "2"));
    }

    #[test]
    fn long_parts_are_hashed_as_short_ones_are() {
        let key = [7; 32];
        for lengths in [[0, 0, 0], [3, 250, 1], [300, 0, 5], [240, 0, 0], [100, 100, 100]] {
            let parts: Vec<Vec<u8>> = lengths.iter().map(|n| vec![b'x'; *n]).collect();
            let mut hasher = blake3::Hasher::new_keyed(&key);
            for part in &parts {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
            assert_eq!(keyed(&key, parts.iter().map(Vec::as_slice)), *hasher.finalize().as_bytes(), "{lengths:?}");
        }
    }

    #[test]
    fn a_token_opens_only_under_its_key() {
        let (a, b) = (site("a secret of a site"), site("the secret of others"));
        let token = a.seal("mrn", "132539").unwrap();
        assert_eq!(token, a.seal("mrn", "132539").unwrap());
        assert_eq!(a.open(&token).unwrap(), ("mrn".to_owned(), "132539".to_owned()));
        assert!(b.open(&token).is_err() && a.open("é").is_err() && a.open(&token[2..]).is_err());
    }

    #[test]
    fn invariant_07_a_key_is_never_printed() {
        assert_eq!(format!("{:?}", site("a secret of a site")), "Pseudonyms");
        assert!(Pseudonyms::new(b"short").is_err());
    }
}
