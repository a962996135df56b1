//! The container read back by its own rules, from the end as a reader of zip files does.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::*;

fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    bytes[at..at + width].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn bytes(file: &File, at: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, at).unwrap();
    bytes
}

/// A file of the archive, as the central directory and its local header have it.
struct Found {
    name: String,
    crc: u32,
    size: u64,
    /// Where its content begins.
    at: u64,
}

/// A field of 32 bits, or of the zip64 fields where it says so.
fn wide(field: u64, zip64: &mut &[u8]) -> u64 {
    if field != u64::from(u32::MAX) {
        return field;
    }
    let (number_, rest) = zip64.split_at(8);
    *zip64 = rest;
    number(number_, 0, 8)
}

/// The zip64 fields of an extra field.
fn zip64(extra: &[u8]) -> &[u8] {
    if extra.is_empty() {
        return extra;
    }
    assert_eq!((number(extra, 0, 2), number(extra, 2, 2) as usize), (1, extra.len() - 4));
    &extra[4..]
}

fn open(file: &File) -> Vec<Found> {
    let length = file.metadata().unwrap().len();
    let end = bytes(file, length - 22, 22);
    assert_eq!((number(&end, 0, 4), number(&end, 20, 2)), (0x0605_4b50, 0), "no end of a zip file");
    let count = number(&end, 10, 2);
    let (mut size, mut at) = (number(&end, 12, 4), number(&end, 16, 4));
    let mut directory_end = length - 22;
    if at == u64::from(u32::MAX) {
        let locator = bytes(file, length - 42, 20);
        assert_eq!((number(&locator, 0, 4), number(&locator, 16, 4)), (0x0706_4b50, 1));
        directory_end = number(&locator, 8, 8);
        let end = bytes(file, directory_end, 56);
        assert_eq!((number(&end, 0, 4), number(&end, 4, 8), directory_end + 56), (0x0606_4b50, 44, length - 42));
        assert_eq!(number(&end, 32, 8), count);
        (size, at) = (number(&end, 40, 8), number(&end, 48, 8));
    }
    assert_eq!(at + size, directory_end);
    let directory = bytes(file, at, size);
    let (mut found, mut entry, mut expected) = (Vec::new(), 0, 0);
    for _ in 0..count {
        let head = &directory[entry..];
        assert_eq!((number(head, 0, 4), number(head, 10, 2)), (0x0201_4b50, 0), "no stored file");
        let (name, extra) = (number(head, 28, 2) as usize, number(head, 30, 2) as usize);
        let mut fields = zip64(&head[46 + name..46 + name + extra]);
        let full = wide(number(head, 24, 4), &mut fields);
        assert_eq!(wide(number(head, 20, 4), &mut fields), full);
        let local = wide(number(head, 42, 4), &mut fields);
        assert!(fields.is_empty());
        assert_eq!(local, expected, "files do not follow each other");
        let same = bytes(file, local, 30);
        assert_eq!((number(&same, 0, 4), &same[4..28]), (0x0403_4b50, &head[6..30]), "the headers differ");
        let local_extra = number(&same, 28, 2);
        let fields = bytes(file, local + 30 + name as u64, local_extra);
        let mut fields = zip64(&fields);
        assert_eq!(wide(number(&same, 22, 4), &mut fields), full);
        let content = local + 30 + name as u64 + local_extra;
        found.push(Found {
            name: String::from_utf8(head[46..46 + name].to_vec()).unwrap(),
            crc: number(head, 16, 4) as u32,
            size: full,
            at: content,
        });
        entry += 46 + name + extra;
        expected = content + full;
    }
    assert_eq!((entry as u64, expected), (size, at));
    found
}

/// A matrix read back.
#[derive(PartialEq, Debug)]
pub(in super::super) struct Matrix {
    pub(in super::super) shape: (usize, usize),
    pub(in super::super) indptr: Vec<i64>,
    pub(in super::super) indices: Vec<i32>,
    pub(in super::super) data: Vec<f32>,
}

/// Reads a file that must be right in every byte.
pub(in super::super) fn read(path: &Path) -> Matrix {
    let file = File::open(path).unwrap();
    let array = |found: &Found, kind: &str| {
        let content = bytes(&file, found.at, found.size);
        let mut crc = Crc::new();
        crc.update(&content);
        assert_eq!(crc.sum(), found.crc, "the checksum of {} is wrong", found.name);
        assert_eq!(&content[..8], b"\x93NUMPY\x01\x00");
        let header = 10 + number(&content, 8, 2) as usize;
        assert_eq!(header % 64, 0);
        let text = String::from_utf8(content[10..header].to_vec()).unwrap();
        assert!(text.starts_with(&format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': (")), "{text}");
        assert!(text.ends_with('\n'));
        let shape: Vec<usize> =
            text.split(['(', ')']).nth(1).unwrap().split(',').filter_map(|n| n.parse().ok()).collect();
        let numbers = content[header..].to_vec();
        let width: usize = kind[2..].parse().unwrap();
        assert_eq!(shape.iter().product::<usize>() * width, numbers.len());
        numbers
    };
    let [indices, indptr, format, shape, data] = open(&file).try_into().ok().unwrap();
    let names = [&indices, &indptr, &format, &shape, &data].map(|found| found.name.as_str());
    assert_eq!(names, ["indices.npy", "indptr.npy", "format.npy", "shape.npy", "data.npy"]);
    assert_eq!(array(&format, "|S3"), b"csr");
    let longs = |numbers: Vec<u8>| -> Vec<i64> {
        numbers.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect()
    };
    let shape = longs(array(&shape, "<i8"));
    let indices = array(&indices, "<i4");
    let data = array(&data, "<f4");
    Matrix {
        shape: (shape[0] as usize, shape[1] as usize),
        indptr: longs(array(&indptr, "<i8")),
        indices: indices.chunks_exact(4).map(|bytes| i32::from_le_bytes(bytes.try_into().unwrap())).collect(),
        data: data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect(),
    }
}

/// Writes the frame of a layout into a file that has nothing else, and is as long as it should be.
fn framed(layout: &Layout) -> File {
    let file = tempfile::tempfile().unwrap();
    for (at, piece) in layout.frame(&Checksums::default()) {
        file.write_all_at(&piece, at).unwrap();
    }
    assert_eq!(file.metadata().unwrap().len(), layout.length());
    file
}

#[test]
fn arrays_lie_where_the_layout_says() {
    for (rows, stored) in [(0, 0), (1, 0), (3, 1_000), (1_000_000, 5)] {
        let layout = Layout::new(rows, 7, stored);
        let found = open(&framed(&layout));
        let begins = [(0, layout.indices_at()), (1, layout.indptr_at()), (4, layout.data_at())];
        for (i, at) in begins {
            assert_eq!((at - found[i].at) % 64, 0, "a header of npy is no multiple of 64 bytes");
        }
        assert_eq!(found[0].at + found[0].size - layout.indices_at(), stored * 4);
        assert_eq!(found[1].at + found[1].size - layout.indptr_at(), (rows + 1) * 8);
        assert_eq!(found[4].at + found[4].size - layout.data_at(), stored * 4);
    }
}

/// The sizes around which a field of 32 bits no longer has room; the files are nothing but holes.
#[test]
fn what_32_bits_cannot_hold_is_in_zip64_fields() {
    let header = 128;
    for bytes in [LIMIT / 2, LIMIT - 4, LIMIT - 3, LIMIT + 1, 3 * LIMIT] {
        let stored = (bytes - header) / INDEX_BYTES;
        let found = open(&framed(&Layout::new(10, 7, stored)));
        assert_eq!(found[0].size - header, stored * INDEX_BYTES);
        assert_eq!(found[4].size - header, stored * DATA_BYTES);
    }
}
