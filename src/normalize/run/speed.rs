//! What a row costs, stage by stage: `cargo test --release speed -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use super::super::tests::{PHYSIONET, physionet, record, site};
use super::*;
use crate::settings::Format;

#[test]
#[ignore = "a measurement"]
fn speed() {
    let Some(flat) = physionet(400_000) else { return };
    let records: Vec<_> = flat.iter().enumerate().map(|(i, text)| record(i, Format::Flat, text)).collect();
    for batch in [200, 2_000, 20_000] {
        let mut site = site(PHYSIONET);
        for chunk in records[..100_000].chunks(batch) {
            site.run(chunk).unwrap();
        }
        let mut spent = [Duration::ZERO; 5];
        let mut timed = |stage: usize, start: Instant| spent[stage] += start.elapsed();
        for chunk in records.chunks(batch) {
            let start = Instant::now();
            let (decoded, mut endings) = site.decode(chunk, None);
            timed(0, start);
            let start = Instant::now();
            let (rows, tokens, _) = site.rows(chunk, &decoded).unwrap();
            timed(1, start);
            let start = Instant::now();
            let facts = rows.slice(tokens.len(), decoded.facts.len());
            site.learn(&decoded.facts, &facts).unwrap();
            timed(2, start);
            let start = Instant::now();
            let ruled = site.rule(&facts, &decoded.ranges, &mut endings).unwrap();
            timed(3, start);
            let start = Instant::now();
            let parts = assemble::Parts {
                rows: &rows,
                tokens: &tokens,
                facts: &decoded.facts,
                ranges: &decoded.ranges,
                codes: &site.codes,
            };
            let assembled = assemble::assemble(&parts, ruled, &mut endings).unwrap();
            assert!(assembled.events.num_rows() >= chunk.len());
            timed(4, start);
        }
        let each = spent.map(|span| span.as_nanos() as usize / records.len());
        println!(
            "batches of {batch}, ns a row: decode {}, pseudonyms and columns {}, units {}, plan {}, assembly {}",
            each[0], each[1], each[2], each[3], each[4]
        );
    }
}
