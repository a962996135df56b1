//! A sparse matrix as scipy saves one, in a file whose parts are written in any order.
//!
//! A `.npz` is a zip archive without compression of `.npy` files, each of them a header and the bare
//! numbers. With the numbers counted beforehand every byte has its place before the first is written:
//! [`Layout`] says where the three arrays go, and [`Layout::frame`] makes all that stands around them.
//! Where a size or a place does not fit 32 bits, zip64 is used.

use flate2::Crc;

/// Largest number that a 32 bit field may hold; this one says that a zip64 field has the number.
const LIMIT: u64 = u32::MAX as u64;
/// Zip's first day, 1980-01-01: a file is the same whenever it is written.
const DATE: u16 = 0x21;

/// Bytes of one number.
pub(super) const INDEX_BYTES: u64 = 4;
/// See [`INDEX_BYTES`].
pub(super) const INDPTR_BYTES: u64 = 8;
/// See [`INDEX_BYTES`].
pub(super) const DATA_BYTES: u64 = 4;

/// A file of the archive.
#[derive(Debug)]
struct Entry {
    name: &'static str,
    /// What stands before the numbers.
    header: Vec<u8>,
    /// The numbers, where they are known with the layout.
    body: Vec<u8>,
    /// Bytes of header and numbers.
    size: u64,
    /// Where its local header begins.
    at: u64,
}

/// Where everything is in the file of a CSR matrix.
#[derive(Debug)]
pub(super) struct Layout {
    entries: [Entry; 5],
    /// Where the central directory begins.
    directory: u64,
}

/// Checksums of the arrays, without their headers.
#[derive(Default, Debug)]
pub(super) struct Checksums {
    pub(super) indices: Crc,
    pub(super) indptr: Crc,
    pub(super) data: Crc,
}

const INDICES: usize = 0;
const INDPTR: usize = 1;
const DATA: usize = 4;

impl Layout {
    /// For a matrix of `rows` x `columns` with `stored` values: int32 `indices`, int64 `indptr` and
    /// float32 `data`, in this machine's order of bytes.
    pub(super) fn new(rows: u64, columns: u64, stored: u64) -> Self {
        let order = if cfg!(target_endian = "big") { '>' } else { '<' };
        let array = |kind: &str, length: u64| npy_header(&format!("{order}{kind}"), &format!("({length},)"));
        let shape = [rows, columns].map(|side| (side as i64).to_ne_bytes()).concat();
        let entry = |name, header: Vec<u8>, body: Vec<u8>, numbers: u64| {
            let size = header.len() as u64 + numbers;
            Entry { name, header, body, size, at: 0 }
        };
        let mut entries = [
            entry("indices.npy", array("i4", stored), Vec::new(), stored * INDEX_BYTES),
            entry("indptr.npy", array("i8", rows + 1), Vec::new(), (rows + 1) * INDPTR_BYTES),
            entry("format.npy", npy_header("|S3", "()"), b"csr".to_vec(), 3),
            entry("shape.npy", array("i8", 2), shape, 16),
            entry("data.npy", array("f4", stored), Vec::new(), stored * DATA_BYTES),
        ];
        let mut at = 0;
        for entry in &mut entries {
            entry.at = at;
            at += entry.local_header(0).len() as u64 + entry.size;
        }
        Layout { entries, directory: at }
    }

    /// Bytes of the file.
    pub(super) fn length(&self) -> u64 {
        let directory: usize = self.entries.iter().map(|entry| entry.central_header(0).len()).sum();
        self.directory + (directory + self.end(directory as u64).len()) as u64
    }

    /// Where the column numbers go.
    pub(super) fn indices_at(&self) -> u64 {
        self.entries[INDICES].numbers_at()
    }

    /// Where the ends of the rows go, a 0 before them.
    pub(super) fn indptr_at(&self) -> u64 {
        self.entries[INDPTR].numbers_at()
    }

    /// Where the values go.
    pub(super) fn data_at(&self) -> u64 {
        self.entries[DATA].numbers_at()
    }

    /// Everything but the three arrays, with the places where it goes; the last piece ends the file.
    pub(super) fn frame(&self, checksums: &Checksums) -> Vec<(u64, Vec<u8>)> {
        let mut pieces = Vec::new();
        let mut directory = Vec::new();
        for (i, entry) in self.entries.iter().enumerate() {
            let mut crc = Crc::new();
            crc.update(&entry.header);
            match i {
                INDICES => crc.combine(&checksums.indices),
                INDPTR => crc.combine(&checksums.indptr),
                DATA => crc.combine(&checksums.data),
                _ => crc.update(&entry.body),
            }
            pieces.push((entry.at, [entry.local_header(crc.sum()), entry.header.clone(), entry.body.clone()].concat()));
            directory.extend(entry.central_header(crc.sum()));
        }
        let size = directory.len() as u64;
        directory.extend(self.end(size));
        pieces.push((self.directory, directory));
        pieces
    }

    /// The end of the archive, after a central directory of `size` bytes.
    fn end(&self, size: u64) -> Vec<u8> {
        let count = self.entries.len() as u16;
        let mut end = Bytes::default();
        if self.directory >= LIMIT {
            end.u32(0x0606_4b50).u64(44).u16(45).u16(45).u32(0).u32(0);
            end.u64(u64::from(count)).u64(u64::from(count)).u64(size).u64(self.directory);
            end.u32(0x0706_4b50).u32(0).u64(self.directory + size).u32(1);
        }
        end.u32(0x0605_4b50).u16(0).u16(0).u16(count).u16(count);
        end.u32(narrow(size)).u32(narrow(self.directory)).u16(0);
        end.0
    }
}

impl Entry {
    fn numbers_at(&self) -> u64 {
        self.at + self.local_header(0).len() as u64 + self.header.len() as u64
    }

    fn local_header(&self, crc: u32) -> Vec<u8> {
        let mut wide = Bytes::default();
        if self.size >= LIMIT {
            wide.u16(1).u16(16).u64(self.size).u64(self.size);
        }
        let mut header = Bytes::default();
        header.u32(0x0403_4b50).u16(self.version()).u16(0).u16(0).u16(0).u16(DATE).u32(crc);
        header.u32(narrow(self.size)).u32(narrow(self.size)).u16(self.name.len() as u16).u16(wide.0.len() as u16);
        [header.0, self.name.as_bytes().to_vec(), wide.0].concat()
    }

    fn central_header(&self, crc: u32) -> Vec<u8> {
        let mut fields = Bytes::default();
        if self.size >= LIMIT {
            fields.u64(self.size).u64(self.size);
        }
        if self.at >= LIMIT {
            fields.u64(self.at);
        }
        let mut wide = Bytes::default();
        if !fields.0.is_empty() {
            wide.u16(1).u16(fields.0.len() as u16);
            wide.0.extend(fields.0);
        }
        let mut header = Bytes::default();
        header.u32(0x0201_4b50).u16(self.version()).u16(self.version()).u16(0).u16(0).u16(0).u16(DATE).u32(crc);
        header.u32(narrow(self.size)).u32(narrow(self.size)).u16(self.name.len() as u16).u16(wide.0.len() as u16);
        header.u16(0).u16(0).u16(0).u32(0).u32(narrow(self.at));
        [header.0, self.name.as_bytes().to_vec(), wide.0].concat()
    }

    /// The version of zip that a reader needs: 4.5 has zip64.
    fn version(&self) -> u16 {
        if self.size >= LIMIT || self.at >= LIMIT { 45 } else { 20 }
    }
}

/// A number in a 32 bit field.
fn narrow(number: u64) -> u32 {
    number.min(LIMIT) as u32
}

/// The header of a `.npy` file, format 1.0, which ends at a multiple of 64 bytes.
fn npy_header(kind: &str, shape: &str) -> Vec<u8> {
    let mut text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
    let before = 10;
    let length = (before + text.len() + 1).next_multiple_of(64) - before;
    text.extend(std::iter::repeat_n(' ', length - text.len() - 1));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((length as u16).to_le_bytes());
    header.extend(text.into_bytes());
    header
}

/// Fields of a zip file, one after another.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(&mut self, field: u16) -> &mut Self {
        self.0.extend(field.to_le_bytes());
        self
    }

    fn u32(&mut self, field: u32) -> &mut Self {
        self.0.extend(field.to_le_bytes());
        self
    }

    fn u64(&mut self, field: u64) -> &mut Self {
        self.0.extend(field.to_le_bytes());
        self
    }
}

#[cfg(test)]
pub(super) mod tests;
