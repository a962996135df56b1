//! Files of records, one record at a time.
//!
//! Promises that a record comes out as its bytes stand in the file, that memory is bounded
//! by the longest record allowed however large the file or its decompressed content is, and
//! that nothing but blank lines and HL7 batch envelopes is left out. What a record means is
//! not looked at here: a broken one is for the decoder to refuse.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::decode::csv::{Dialect, RowEnd};
use crate::settings::Format;

/// Longest record that is read from a file, in bytes. Above every sensible `limits.record_bytes`,
/// so that a record too long for the site still becomes a dead letter with its reason.
const LONGEST: usize = 64 << 20;

/// First bytes of a gzip member (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Byte order mark of UTF-8, which editors put before a file's first record.
const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];

/// Why a file's records cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordsError {
    /// The file is not there or not ours to read.
    #[error("{path}: cannot be opened ({cause}); give a file of records, or - for standard input")]
    Open {
        /// As given on the command line.
        path: String,
        /// What the system says.
        cause: io::Error,
    },
    /// Reading or decompressing stopped in the middle.
    #[error("{path}: reading stopped after {records} records ({cause}); the file is damaged or was cut off")]
    Read {
        /// As given on the command line.
        path: String,
        /// Records that came out before.
        records: u64,
        /// What the system or the decompressor says.
        cause: io::Error,
    },
    /// A record is longer than any that is read.
    #[error("{path}: record {record} is longer than {LONGEST} bytes and was passed over; split it at its source")]
    TooLong {
        /// As given on the command line.
        path: String,
        /// Number of the record in the file, from 1.
        record: u64,
    },
}

/// How a file divides into records.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Division {
    /// One a line; blank lines are none.
    Lines,
    /// The whole file is one.
    Whole,
    /// One HL7 v2 message, from its MSH segment to the next.
    Messages,
    /// Rows of CSV, with line breaks within quotes; blank lines are none.
    Rows(Dialect),
}

/// The records of one file, in its order.
pub(super) struct Records {
    input: Box<dyn BufRead + Send>,
    division: Division,
    path: String,
    longest: usize,
    /// Records given out or passed over.
    seen: u64,
    /// HL7: the first segment of the next message, read already.
    ahead: Vec<u8>,
    ended: bool,
}

/// Opens the file at `path` (`-` is standard input), gzip or not, by its content.
///
/// HL7 v2 divides into messages, a `.json` file is one record, anything else has a record a line.
///
/// # Errors
/// If the file cannot be opened. The items are errors where reading fails (then they end) and
/// where a record is too long (then they go on).
pub(super) fn records(path: &Path, format: Format) -> Result<Records, RecordsError> {
    open(path, division(&path.display().to_string(), format))
}

/// Opens a file of CSV as [`records`] does others; its header is its first record.
///
/// # Errors
/// As of [`records`].
pub(super) fn rows(path: &Path, dialect: Dialect) -> Result<Records, RecordsError> {
    open(path, Division::Rows(dialect))
}

fn open(path: &Path, division: Division) -> Result<Records, RecordsError> {
    let name = path.display().to_string();
    let open = |cause| RecordsError::Open { path: name.clone(), cause };
    if path.as_os_str() == "-" {
        return Records::new(BufReader::new(io::stdin()), division, name.clone()).map_err(open);
    }
    let file = File::open(path).map_err(open)?;
    if file.metadata().map_err(open)?.is_dir() {
        return Err(open(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    Records::new(BufReader::with_capacity(1 << 17, file), division, name.clone()).map_err(open)
}

fn division(name: &str, format: Format) -> Division {
    let name = name.to_ascii_lowercase();
    match format {
        Format::Hl7v2 => Division::Messages,
        _ if name.strip_suffix(".gz").unwrap_or(&name).ends_with(".json") => Division::Whole,
        _ => Division::Lines,
    }
}

impl Records {
    fn new(mut input: impl BufRead + Send + 'static, division: Division, path: String) -> io::Result<Self> {
        let zipped = input.fill_buf()?.starts_with(&GZIP);
        let mut input: Box<dyn BufRead + Send> = if zipped {
            Box::new(BufReader::with_capacity(1 << 17, MultiGzDecoder::new(input)))
        } else {
            Box::new(input)
        };
        if input.fill_buf().is_ok_and(|start| start.starts_with(&BOM)) {
            input.consume(BOM.len());
        }
        Ok(Records { input, division, path, longest: LONGEST, seen: 0, ahead: Vec::new(), ended: false })
    }

    /// Reads one line without its end into `line`; false at the end of the input.
    /// Of a line that is too long only so much is kept that it still shows.
    fn line(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        // Room for the longest record and both bytes of its end.
        let keep = self.longest + 2;
        if self.input.by_ref().take(keep as u64).read_until(b'\n', line)? == 0 {
            return Ok(false);
        }
        if line.last() != Some(&b'\n') && line.len() == keep {
            self.input.skip_until(b'\n')?;
            return Ok(true);
        }
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        Ok(true)
    }

    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        while self.line(&mut line)? {
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(line));
            }
            line.clear();
        }
        Ok(None)
    }

    fn whole(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut record = Vec::new();
        self.input.by_ref().take(self.longest as u64 + 1).read_to_end(&mut record)?;
        self.ended = true;
        Ok(Some(record).filter(|record| !record.iter().all(u8::is_ascii_whitespace)))
    }

    /// Reads one HL7 segment without its end into `segment`; false at the end of the input.
    /// Segments end with a carriage return (HL7 v2, chapter 2), in files often with a line feed;
    /// MLLP frames a message in 0x0b and 0x1c, which in a file only divide. Of a segment that is
    /// too long only so much is kept that it still shows.
    fn segment(&mut self, segment: &mut Vec<u8>) -> io::Result<bool> {
        let mut any = false;
        loop {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                break;
            }
            any = true;
            let end = available.iter().position(|&byte| byte == b'\r' || byte == b'\n');
            let upto = end.unwrap_or(available.len());
            // Room for the longest record, the byte that shows it is longer, and the frame.
            let room = (self.longest + 3).saturating_sub(segment.len());
            segment.extend_from_slice(&available[..upto.min(room)]);
            self.input.consume(end.map_or(upto, |end| end + 1));
            if end.is_some() {
                break;
            }
        }
        if segment.last() == Some(&0x1c) {
            segment.pop();
        }
        if segment.first() == Some(&0x0b) {
            segment.remove(0);
        }
        Ok(any)
    }

    /// Reads one row without its end. Of a row that is too long only so much is kept that it still shows.
    fn row(&mut self, dialect: Dialect) -> io::Result<Option<Vec<u8>>> {
        let (mut row, mut end) = (Vec::new(), RowEnd::new(dialect));
        loop {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                break;
            }
            let found = available.iter().position(|&byte| end.is_end(byte));
            let upto = found.unwrap_or(available.len());
            let room = (self.longest + 1).saturating_sub(row.len());
            row.extend_from_slice(&available[..upto.min(room)]);
            self.input.consume(found.map_or(upto, |at| at + 1));
            if found.is_some() {
                if !row.iter().all(u8::is_ascii_whitespace) {
                    return Ok(Some(row));
                }
                (row, end) = (Vec::new(), RowEnd::new(dialect));
            }
        }
        Ok(Some(row).filter(|row| !row.iter().all(u8::is_ascii_whitespace)))
    }

    fn message(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut message = std::mem::take(&mut self.ahead);
        let mut segment = Vec::new();
        while self.segment(&mut segment)? {
            if segment.starts_with(b"MSH") && !message.is_empty() {
                self.ahead = segment;
                return Ok(Some(message));
            }
            // The envelope of a batch file (HL7 v2, 2.10.3) is no part of a message.
            let envelope = [b"FHS", b"BHS", b"BTS", b"FTS"].iter().any(|name| segment.starts_with(*name));
            if !envelope && !segment.iter().all(u8::is_ascii_whitespace) && message.len() <= self.longest {
                if !message.is_empty() {
                    message.push(b'\r');
                }
                message.extend_from_slice(&segment);
            }
            segment.clear();
        }
        Ok(Some(message).filter(|message| !message.is_empty()))
    }
}

impl Iterator for Records {
    type Item = Result<Vec<u8>, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = match self.division {
            Division::Lines => self.next_line(),
            Division::Whole => self.whole(),
            Division::Messages => self.message(),
            Division::Rows(dialect) => self.row(dialect),
        };
        match read {
            Ok(Some(record)) => {
                self.seen += 1;
                if record.len() > self.longest {
                    return Some(Err(RecordsError::TooLong { path: self.path.clone(), record: self.seen }));
                }
                Some(Ok(record))
            }
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(cause) => {
                self.ended = true;
                Some(Err(RecordsError::Read { path: self.path.clone(), records: self.seen, cause }))
            }
        }
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("path", &self.path).field("division", &self.division).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn read(bytes: &[u8], division: Division) -> Vec<String> {
        let records = Records::new(Cursor::new(bytes.to_vec()), division, "f".to_owned()).unwrap();
        records.map(|record| String::from_utf8(record.unwrap()).unwrap()).collect()
    }

    fn zip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn lines_lose_their_ends_and_blank_ones_are_none() {
        assert_eq!(read(b"\xef\xbb\xbf{\"a\":1}\r\n\n  \n{\"b\":\n2", Division::Lines), ["{\"a\":1}", "{\"b\":", "2"]);
        assert!(read(b"", Division::Lines).is_empty());
    }

    #[test]
    fn a_json_file_is_one_record() {
        assert_eq!(read(b"{\n \"resourceType\": 1\n}\n", Division::Whole), ["{\n \"resourceType\": 1\n}\n"]);
        assert!(read(b" \n", Division::Whole).is_empty());
    }

    #[test]
    fn messages_begin_at_msh_whatever_ends_their_segments() {
        let expected = ["MSH|^~\\&|A\rPID|1", "MSH|^~\\&|B\rPID|2"];
        for file in [
            "MSH|^~\\&|A\rPID|1\rMSH|^~\\&|B\rPID|2\r",
            "MSH|^~\\&|A\nPID|1\n\nMSH|^~\\&|B\nPID|2",
            "\u{b}MSH|^~\\&|A\r\nPID|1\r\n\u{1c}\r\u{b}MSH|^~\\&|B\rPID|2\r\u{1c}\r",
            "FHS|^~\\&\rBHS|^~\\&\rMSH|^~\\&|A\rPID|1\rMSH|^~\\&|B\rPID|2\rBTS|2\rFTS|1\r",
        ] {
            assert_eq!(read(file.as_bytes(), Division::Messages), expected);
        }
        assert_eq!(read(b"no message at all", Division::Messages), ["no message at all"]);
    }

    #[test]
    fn rows_end_outside_quotes_whatever_ends_them() {
        let rows = Division::Rows(Dialect { delimiter: b',', quote: Some(b'"') });
        let expected = ["a,b", "1,\"two\nlines\"", "2,5\" nail", ",,"];
        for end in ["\n", "\r\n", "\r", "\n\n \n"] {
            let file = format!("\u{feff}{}", expected.join(end));
            assert_eq!(read(file.as_bytes(), rows), expected);
            assert_eq!(read(&zip((file + end).as_bytes()), rows), expected);
        }
        assert!(read(b"\n \r\n", rows).is_empty());
    }

    #[test]
    fn gzip_is_told_by_its_content_and_may_have_members() {
        let mut zipped = zip(b"one\n");
        zipped.extend(zip(b"two\n"));
        assert_eq!(read(&zipped, Division::Lines), ["one", "two"]);
    }

    #[test]
    fn a_cut_off_file_ends_with_an_error() {
        let zipped = zip("line\n".repeat(50_000).as_bytes());
        let mut records =
            Records::new(Cursor::new(zipped[..zipped.len() - 12].to_vec()), Division::Lines, "f".to_owned()).unwrap();
        let last = records.by_ref().last().unwrap();
        assert!(matches!(last, Err(RecordsError::Read { .. })));
        assert!(records.next().is_none());
    }

    #[test]
    fn a_record_too_long_is_passed_over_in_bounded_memory() {
        for (division, file, good) in [
            (Division::Lines, "0123456789abcdefg\n0123456789\n", "0123456789"),
            (Division::Messages, "MSH|0123456789\rMSH|45\r", "MSH|45"),
            (Division::Rows(Dialect { delimiter: b',', quote: None }), "0123456789,\n0123,56789\n", "0123,56789"),
        ] {
            let mut records = Records::new(Cursor::new(file.as_bytes().to_vec()), division, "f".to_owned()).unwrap();
            records.longest = 10;
            let error = records.next().unwrap().unwrap_err();
            assert!(matches!(error, RecordsError::TooLong { record: 1, .. }));
            assert_eq!(records.next().unwrap().unwrap(), good.as_bytes());
            assert!(records.next().is_none());
        }
        let mut bomb = Records::new(Cursor::new(zip(&vec![b'x'; 1 << 22])), Division::Lines, "f".to_owned()).unwrap();
        bomb.longest = 1000;
        assert!(matches!(bomb.next(), Some(Err(RecordsError::TooLong { .. }))));
        assert!(bomb.next().is_none());
    }

    #[test]
    fn files_are_divided_by_their_names() {
        assert_eq!(division("a/B.JSON.gz", Format::Fhir), Division::Whole);
        assert_eq!(division("a.ndjson.gz", Format::Fhir), Division::Lines);
        assert_eq!(division("-", Format::Flat), Division::Lines);
        assert_eq!(division("a.json", Format::Hl7v2), Division::Messages);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = records(Path::new("/nowhere/absent.jsonl"), Format::Flat).unwrap_err();
        assert!(error.to_string().contains("absent.jsonl"));
        assert!(records(Path::new("/"), Format::Flat).is_err());
    }
}
