//! The record's bytes as text (HL7 v2.8, MSH-18 and table 0211).

use std::borrow::Cow;

use encoding_rs::{BIG5, EUC_KR, Encoding, GB18030, ISO_2022_JP, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::super::{Reason, Reject};
use super::lenient::{self, Tally};

/// The record as text, borrowed where it is ASCII or UTF-8.
///
/// MSH-18 names the character set; where it names none, or ASCII, the bytes are UTF-8 or, if they cannot
/// be, windows-1252 (which contains ISO 8859-1).
///
/// # Errors
/// `unsupported` if MSH-18 names a set that is not known and the record is not plain ASCII.
pub(super) fn text<'a>(bytes: &'a [u8], tally: &mut Tally) -> Result<Cow<'a, str>, Reject> {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        tally.lenient(lenient::BYTE_ORDER_MARK);
        let rest = bytes.get(mark..).unwrap_or_default();
        if encoding != UTF_8 {
            return Ok(decoded(encoding, rest, tally));
        }
        return text(rest, tally);
    }
    let name = declared(bytes);
    let declared = named(name);
    // Among the sets that are known only this one gives ASCII bytes another meaning.
    if bytes.is_ascii() && declared != Some(ISO_2022_JP) {
        return Ok(std::str::from_utf8(bytes).map_or_else(|_| decoded(UTF_8, bytes, tally), Cow::Borrowed));
    }
    let Some(declared) = declared else {
        return Err(Reject::new(Reason::Unsupported, "MSH-18 names a character set that this version does not know"));
    };
    if declared != UTF_8 {
        return Ok(decoded(declared, bytes, tally));
    }
    Ok(match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            tally.lenient(lenient::CHARSET);
            decoded(WINDOWS_1252, bytes, tally)
        }
    })
}

/// Bytes that the set does not know are replaced, and that is counted.
fn decoded<'a>(encoding: &'static Encoding, bytes: &'a [u8], tally: &mut Tally) -> Cow<'a, str> {
    let (text, replaced) = encoding.decode_without_bom_handling(bytes);
    if replaced {
        tally.lenient(lenient::BYTES_REPLACED);
    }
    text
}

/// First repeat of MSH-18 of the first message.
fn declared(bytes: &[u8]) -> &[u8] {
    let Some(start) = bytes.windows(3).position(|three| three == b"MSH") else { return b"" };
    let line = bytes[start..].split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
    let Some(separator) = line.get(3) else { return b"" };
    let field = line.split(|b| b == separator).nth(17).unwrap_or_default();
    field.split(|b| *b == b'~').next().unwrap_or_default().trim_ascii()
}

/// The encoding of a name of table 0211; UTF-8 where it names none.
fn named(name: &[u8]) -> Option<&'static Encoding> {
    Some(match name {
        b"" | b"ASCII" | b"UTF-8" | b"UTF8" | b"UNICODE" | b"UNICODE UTF-8" | b"ISO IR6" | b"ISO IR-6" => UTF_8,
        b"UNICODE UTF-16" => UTF_16BE,
        b"UNICODE UTF-16LE" => UTF_16LE,
        b"ISO IR14" | b"ISO IR87" | b"ISO IR159" => ISO_2022_JP,
        b"GB 18030-2000" => GB18030,
        b"KS X 1001" => EUC_KR,
        b"BIG-5" => BIG5,
        // `8859/1` to `8859/15`, and names of the web (`ISO-8859-1`, `WINDOWS-1252`).
        _ => match name.strip_prefix(b"8859/") {
            Some(part) => Encoding::for_label(&[b"iso-8859-", part].concat())?,
            None => Encoding::for_label(name)?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (Result<String, Reason>, Vec<(&'static str, u32)>) {
        let mut tally = Tally::default();
        let text = text(bytes, &mut tally).map(Cow::into_owned).map_err(|reject| reject.reason);
        (text, tally.lenient.into_iter().collect())
    }

    fn message(charset: &str, name: &[u8]) -> Vec<u8> {
        [b"MSH|^~\\&|||||||||||||||| ".as_slice(), charset.as_bytes(), b"~x|\rPID|", name].concat()
    }

    #[test]
    fn sets_of_table_0211() {
        for (charset, bytes, name) in [
            ("", &b"M\xc3\xbcller"[..], "Müller"),
            ("UNICODE UTF-8", b"M\xc3\xbcller", "Müller"),
            ("8859/1", b"M\xfcller", "Müller"),
            ("8859/15", b"\xa4", "€"),
            ("8859/2", b"\xb1", "ą"),
            ("8859/5", b"\xdf", "п"),
            ("GB 18030-2000", b"\xc0\xee", "李"),
            ("ISO IR87", b"\x1b$B;3ED\x1b(B", "山田"),
        ] {
            let (text, lenient) = read(&message(charset, bytes));
            assert!(text.unwrap().ends_with(name), "{charset}");
            assert!(lenient.is_empty(), "{charset}");
        }
    }

    #[test]
    fn what_is_not_as_declared() {
        for charset in ["", "ASCII", "UNICODE UTF-8"] {
            let (text, lenient) = read(&message(charset, b"M\xfcller"));
            assert!(text.unwrap().ends_with("Müller"));
            assert_eq!(lenient, [(lenient::CHARSET, 1)]);
        }
        assert_eq!(read(&message("EBCDIC", b"M\xfcller")).0, Err(Reason::Unsupported));
        assert!(read(&message("EBCDIC", b"Muller")).0.is_ok(), "plain ASCII is the same in every set");
        assert_eq!(read(&message("8859/3", b"\xa5")).1, [(lenient::BYTES_REPLACED, 1)]);
        assert_eq!(read(b"\xef\xbb\xbfMSH|^~\\&|").0.unwrap(), "MSH|^~\\&|");
        assert_eq!(read(b"\xff\xfeM\0S\0H\0").0.unwrap(), "MSH");
        assert_eq!(read(b"").0.unwrap(), "");
    }
}
