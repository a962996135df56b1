//! Messages cut, shuffled, mutated and blown up: never a panic, never more memory than a bound, never a word of the
//! record in a reject.

use proptest::prelude::*;

use super::super::super::*;
use super::segment;

/// Appears in every value, so that no reject may hold it.
const CANARY: &str = "CANARY77310";

/// Small messages of every kind, in the manner of real ones.
fn fixtures() -> Vec<String> {
    let msh = |kind: &str| {
        format!("MSH|^~\\&|{CANARY}|{CANARY}|R|H|20260102090000+0000||{kind}|{CANARY}|P|2.5.1||||||8859/1\r")
    };
    let pid = format!(
        "PID|1|{CANARY}|{CANARY}^^^HOSP&1.2&ISO^MR~{CANARY}2^^^B^PI||{CANARY}^A||19700203|F|||||||||{CANARY}\r"
    );
    let pv1 = [(2, "I"), (3, CANARY), (19, CANARY), (36, "01"), (44, "202601010800"), (45, "202601020800")];
    let pv1 = segment("PV1", &pv1) + "\r";
    let evn = "EVN|A01|202601020800|||x|202601020730\r";
    let orc = format!("ORC|NW|{CANARY}^P|{CANARY}^F||||||20260101\r");
    let obr =
        format!("OBR|1|{CANARY}^P|{CANARY}^F|24317-0^{CANARY}^LN|||202601010800{}20260101090000|||F\r", "|".repeat(15));
    let obx = format!(
        "OBX|1|NM|8867-4^{CANARY}^LN|1|72~73|/min^^UCUM|||||F|||202601010800\rOBX|2|SN|{CANARY}^x^L||<^5|mg|||||C\r\
         OBX|3|TX|N^{CANARY}^L||{CANARY}\\.br\\x||||||P\rOBX|4|TX|N^{CANARY}^L||{CANARY}~y||||||P\r\
         OBX|5|CWE|600-7^x^LN||112283007^{CANARY}^SCT||||||W\rOBX|6|TS|D^x^L||20260101||||||F\rOBX|7|ED|I^x^L||^IM^JPEG^Base64^AAAA\r"
    );
    let rest = format!(
        "DG1|1||I21.9^{CANARY}^I10||20260101|A\rPR1|1||1^{CANARY}^SCT||20260101\rAL1|1|DA|2^{CANARY}^L|||2020\r\
         IAM|1|DA|3^{CANARY}^L|||A|{CANARY}||AL||2020\rPRB|AD|20260101|4^{CANARY}^L|{CANARY}|||20260101\rZX1|{CANARY}\rNTE|1||{CANARY}\r"
    );
    let rx = format!(
        "RXO|5^{CANARY}^L\rRXE||6^{CANARY}^RXNORM|1\rRXD|1|7^{CANARY}^NDC|20260101|2\rRXA|0|1|20260101||8^{CANARY}^CVX|5|mL\r"
    );
    vec![
        format!("{}{evn}{pid}{pv1}{rest}", msh("ADT^A01")),
        format!("{}{pid}{pv1}{orc}{obr}{obx}", msh("ORU^R01")),
        format!("{}{pid}{orc}{obr}{rx}{obx}", msh("ORM^O01")),
        format!("{}{pid}TXA|1|DS||20260101||||||||{CANARY}\r{obx}", msh("MDM^T02")),
        format!("{}{evn}{pid}MRG|{CANARY}3^^^HOSP^MR\r{pid}", msh("ADT^A40")),
        format!("FHS|^~\\&\rBHS|^~\\&\r{}{pid}{}{pid}{pv1}BTS|2\rFTS|1\r", msh("ADT^A31"), msh("ADT^A11")),
    ]
}

/// Decodes; whatever comes of it, it keeps the promises of the module.
fn keeps_promises(bytes: &[u8]) -> Result<bool, TestCaseError> {
    let mut facts = Vec::new();
    match decode(Format::Hl7v2, &Rules { zone: chrono_tz::America::New_York }, bytes, &mut facts) {
        Ok(notes) => {
            prop_assert!(facts.iter().all(|fact| !fact.patient.is_empty() && !fact.code.is_empty()));
            prop_assert!(facts.iter().all(|fact| !matches!(fact.value, Value::Number(n) if !n.is_finite())));
            let words = notes.lenient.iter().all(|(word, _)| super::super::lenient::ALL.contains(word));
            prop_assert!(words && notes.links.iter().all(|link| link.kept != link.other));
            Ok(true)
        }
        Err(reject) => {
            prop_assert!(!reject.detail.contains("CANARY") && reject.detail.len() < 200, "{}", reject.detail);
            prop_assert!(facts.is_empty());
            Ok(false)
        }
    }
}

#[test]
fn the_fixtures_are_valid() {
    for text in fixtures() {
        assert!(keeps_promises(text.as_bytes()).unwrap(), "{text}");
    }
}

#[test]
fn a_cut_message_is_read_as_far_as_it_goes_or_rejected() {
    for text in fixtures() {
        for end in 0..text.len() {
            keeps_promises(&text.as_bytes()[..end]).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn mutated(which in 0_usize..6, changes in proptest::collection::vec((any::<proptest::sample::Index>(), prop_oneof![
        any::<u8>(), proptest::sample::select(&b"|^~\\&\r\n\"0\x0b\x1c"[..])]), 1..12))
    {
        let mut bytes = fixtures().swap_remove(which).into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        keeps_promises(&bytes)?;
    }

    #[test]
    fn shuffled_segments(which in 0_usize..6, keys in proptest::collection::vec(any::<u32>(), 40)) {
        let text = fixtures().swap_remove(which);
        let (head, rest) = text.split_once('\r').unwrap();
        let mut segments: Vec<(u32, &str)> = keys.into_iter().zip(rest.split('\r')).collect();
        segments.sort_unstable();
        let shuffled = segments.iter().fold(head.to_owned(), |text, (_, segment)| text + "\r" + segment);
        keeps_promises(shuffled.as_bytes())?;
    }

    #[test]
    fn swapped_fields(which in 0_usize..6, a in any::<proptest::sample::Index>(), b in any::<proptest::sample::Index>()) {
        let text = fixtures().swap_remove(which);
        let mut fields: Vec<&str> = text.split('|').collect();
        let (a, b) = (a.index(fields.len()), b.index(fields.len()));
        fields.swap(a, b);
        keeps_promises(fields.join("|").as_bytes())?;
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        keeps_promises(&bytes)?;
        keeps_promises(&[b"MSH|^~\\&|", bytes.as_slice()].concat())?;
    }
}

/// Bytes that facts and links hold in memory.
fn weight(facts: &Vec<Fact<'_>>, notes: &Notes<'_>) -> usize {
    let owned = |text: &Option<Cow<'_, str>>| matches!(text, Some(Cow::Owned(text)) if text.capacity() > 0);
    let length = |text: &Option<Cow<'_, str>>| text.as_ref().map_or(0, |text| text.len());
    facts.capacity() * size_of::<Fact<'_>>()
        + notes.links.capacity() * size_of::<Link<'_>>()
        + facts.iter().filter(|fact| owned(&fact.id)).map(|fact| length(&fact.id)).sum::<usize>()
        + facts
            .iter()
            .map(|fact| if let Value::Text(Cow::Owned(text)) = &fact.value { text.capacity() } else { 0 })
            .sum::<usize>()
}

#[test]
fn a_megabyte_takes_no_more_than_its_share() {
    const MEGABYTE: usize = 1 << 20;
    let head = "MSH|^~\\&|A|B|||20260101||ORU^R01|1|P|2.5\rPID|||1\r";
    let long = "x".repeat(500_000);
    let (mut most, mut read) = (0, 0);
    for blown in [
        format!("{head}{}", "OBX||NM|a||1\r".repeat(MEGABYTE / 13)),
        format!("{head}OBX||NM|a||{}", "1~".repeat(MEGABYTE / 2)),
        format!("{head}OBR|||{long}|a\r{}", "OBX||NM|a||1\r".repeat(MEGABYTE / 26)),
        format!("{head}OBR|||1|{long}\r{}", "OBX||NM|a||1\r".repeat(MEGABYTE / 26)),
        format!("{head}{}", "OBX||TX|a||x\r".repeat(MEGABYTE / 13)),
        format!("{head}{}", "OBX||FT|a||\\.sp99\\\r".repeat(MEGABYTE / 19)),
        format!("{}{}", head.trim_end(), "~1".repeat(MEGABYTE / 2)),
        format!("{head}{}", "PID|||1\r".repeat(MEGABYTE / 8)),
        format!("{head}{}", "PID|||1||||1970|F\r".repeat(MEGABYTE / 18)),
        format!("{head}{}", "\r".repeat(MEGABYTE)),
        format!("{head}{}", "a\r".repeat(MEGABYTE / 2)),
        format!("{head}{}", "MSH|^~\\&|||||||A\r".repeat(MEGABYTE / 17)),
        format!("{head}OBX||NM|a||1{}", "|".repeat(MEGABYTE)),
        format!("{head}OBX||ST|a||{}", "\\".repeat(MEGABYTE)),
        format!("{head}AL1||DA|{}", "^".repeat(MEGABYTE)),
    ] {
        let mut facts = Vec::new();
        let start = std::time::Instant::now();
        if let Ok(notes) = decode(Format::Hl7v2, &Rules::default(), blown.as_bytes(), &mut facts) {
            most = most.max(weight(&facts, &notes));
            read += 1;
        }
        assert!(start.elapsed().as_secs() < 5, "{:?} for {}", start.elapsed(), &blown[head.len()..head.len() + 40]);
    }
    println!("{read} read, at most {} MiB", most >> 20);
    assert!(read >= 6 && most < 64 << 20, "{read} {most}");
}
