//! FHIR on one core: the Synthea Bundles into facts, and on into Arrow events, against `serde_json` into a `Value`.
//!
//! A module of the bench `decode`; it prints one JSON line, or says on stderr that the data is absent.

use std::hint::black_box;
use std::io::Read as _;
use std::time::Instant;

use auscult::decode::{Rules, decode};
use auscult::events::Pseudonyms;
use auscult::normalize::{Concepts, Normalizer, Record, Spellings};
use auscult::settings::Format;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/fhir/synthea_r4_dev19.tar.gz");

/// Times of which the best counts.
const ROUNDS: usize = 15;

/// The rules of a hospital, which the events are made by.
const CONCEPTS: &str = include_str!("../../config/hospital/concepts.csv");
const SQL: &str = include_str!("../../config/hospital/normalize.sql");

/// Measures all three and prints
/// `{"bench":"fhir","bytes","facts","events","decode_mb_s","events_mb_s","value_mb_s"}`; events are those of
/// the whole stage: decode, pseudonyms, Arrow, the site's SQL, all Bundles in one batch.
pub(crate) fn fhir() {
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
    let concepts = Concepts::parse("concepts.csv", CONCEPTS).expect("the site's concepts");
    let key = Pseudonyms::new(b"a secret of a bench").expect("a key");
    let mut normalizer = Normalizer::new(&concepts, &Spellings::built_in(), "normalize.sql", SQL, key, 64 << 20)
        .expect("the site's SQL");
    let mut events = 0;
    let normalized = megabytes_a_second(bytes, || {
        let records: Vec<Record<'_>> = bundles.iter().enumerate().map(record).collect();
        events = normalizer.run(&records).expect("events").events.num_rows();
    });
    let parsed = megabytes_a_second(bytes, || {
        for bundle in &bundles {
            black_box(serde_json::from_slice::<serde_json::Value>(bundle).expect("JSON"));
        }
    });
    println!(
        "{{\"bench\":\"fhir\",\"bytes\":{bytes},\"facts\":{count},\"events\":{events},\"decode_mb_s\":{decoded:.1},\"events_mb_s\":{normalized:.1},\"value_mb_s\":{parsed:.1}}}"
    );
}

fn record<'a>((offset, bundle): (usize, &&'a [u8])) -> Record<'a> {
    Record {
        topic: "raw.fhir",
        partition: 0,
        offset: offset as i64,
        timestamp: Some(0),
        format: Format::Fhir,
        assigner: "hospital",
        bytes: bundle,
    }
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
