//! FHIR decoding on one core: the Synthea Bundles into facts, against `serde_json` into a `Value`.
//!
//! A module of the bench `decode`; it prints one JSON line, or says on stderr that the data is absent.

use std::hint::black_box;
use std::io::Read as _;
use std::time::Instant;

use auscult::decode::{Rules, decode};
use auscult::settings::Format;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/fhir/synthea_r4_dev19.tar.gz");

/// Times of which the best counts.
const ROUNDS: usize = 15;

/// Measures both and prints `{"bench":"fhir","bytes","facts","decode_mb_s","value_mb_s"}`.
pub fn fhir() {
    let Ok(file) = std::fs::File::open(DATA) else {
        eprintln!("fhir skipped: the Synthea Bundles are not there");
        return;
    };
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut tar).expect("a gzip file");
    let bundles = bundles(&tar);
    let bytes: usize = bundles.iter().map(|bundle| bundle.len()).sum();

    let mut facts = Vec::new();
    let mut count = 0;
    let decoded = megabytes_a_second(bytes, || {
        count = 0;
        for bundle in &bundles {
            facts.clear();
            decode(Format::Fhir, &Rules::default(), bundle, &mut facts).expect("a Bundle that is read");
            count += black_box(&facts).len();
        }
    });
    let parsed = megabytes_a_second(bytes, || {
        for bundle in &bundles {
            black_box(serde_json::from_slice::<serde_json::Value>(bundle).expect("JSON"));
        }
    });
    println!(
        "{{\"bench\":\"fhir\",\"bytes\":{bytes},\"facts\":{count},\"decode_mb_s\":{decoded:.1},\"value_mb_s\":{parsed:.1}}}"
    );
}

fn megabytes_a_second(bytes: usize, mut work: impl FnMut()) -> f64 {
    let best = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    bytes as f64 / 1e6 / best.fold(f64::INFINITY, f64::min)
}

/// The files of a tar archive (POSIX ustar) whose name ends in `.json`.
fn bundles(tar: &[u8]) -> Vec<&[u8]> {
    let mut files = Vec::new();
    let mut rest = tar;
    while rest.len() >= 512 && rest[0] != 0 {
        let text =
            |from: usize, to: usize| std::str::from_utf8(&rest[from..to]).expect("a header").trim_matches(['\0', ' ']);
        let size = usize::from_str_radix(text(124, 136), 8).expect("a size");
        let is_wanted = matches!(rest[156], b'0' | 0) && text(0, 100).ends_with(".json");
        rest = &rest[512..];
        if is_wanted {
            files.push(&rest[..size]);
        }
        rest = &rest[size.next_multiple_of(512).min(rest.len())..];
    }
    files
}
