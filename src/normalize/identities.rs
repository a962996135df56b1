//! From identifiers to pseudonyms, remembered for as long as there is room.
//!
//! A keyed hash costs more than all else that is done with a row, and the same few patients
//! come again and again. This memory is a cache: what it forgets is computed anew, and a
//! token that it forgot to have given is given again, which the log takes as a redelivery.
//! It holds identifiers and so is never printed.

use std::collections::HashMap;
use std::fmt;

use foldhash::quality::RandomState;

use super::forest::Forest;
use crate::events::{Pseudonyms, SubjectId};

/// Patients that one generation of the memory holds; there are two.
const PATIENTS: usize = 1 << 16;

/// Longest identifier that is remembered, in bytes.
const LONGEST: usize = 256;

/// Pseudonym of an encounter: 16 hexadecimal digits.
pub(super) type EncounterId = [u8; 16];

/// Pseudonyms of whose fact it is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    /// The identifier itself. Keys and encounters are made from it, so that they stay what they
    /// are when the identifier comes to lead to another subject.
    pub(super) own: SubjectId,
    /// The patient.
    pub(super) subject: SubjectId,
    /// The encounter, if the fact names one.
    pub(super) encounter: Option<EncounterId>,
    /// Whether the log may not have the patient's token yet.
    pub(super) new: bool,
}

type Known = HashMap<Box<[u8]>, Patient, RandomState>;

struct Patient {
    own: SubjectId,
    /// The encounter that came last; most patients have one at a time.
    encounter: Option<(Box<str>, EncounterId)>,
}

/// The memory.
pub(super) struct Identities {
    pseudonyms: Pseudonyms,
    forest: Forest,
    recent: Known,
    older: Known,
    key: Vec<u8>,
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities").field("patients", &(self.recent.len() + self.older.len())).finish()
    }
}

impl Identities {
    /// An empty memory.
    pub(super) fn new(pseudonyms: Pseudonyms) -> Self {
        Identities {
            pseudonyms,
            forest: Forest::default(),
            recent: Known::default(),
            older: Known::default(),
            key: Vec::new(),
        }
    }

    /// The key behind the pseudonyms.
    pub(super) fn pseudonyms(&self) -> &Pseudonyms {
        &self.pseudonyms
    }

    /// Who is who.
    pub(super) fn forest(&self) -> &Forest {
        &self.forest
    }

    /// Who is who, to be told more.
    pub(super) fn forest_mut(&mut self) -> &mut Forest {
        &mut self.forest
    }

    /// Pseudonyms of a patient and an encounter.
    pub(super) fn of(&mut self, assigner: &str, patient: &str, encounter: Option<&str>) -> Identity {
        let mut identity = self.own(assigner, patient, encounter);
        identity.subject = self.forest.subject(identity.own);
        identity
    }

    /// Pseudonym of an identifier of which nothing but a link is told.
    pub(super) fn linked(&mut self, assigner: &str, patient: &str) -> SubjectId {
        write_key(&mut self.key, assigner, patient);
        let known = self.recent.get(&*self.key).or_else(|| self.older.get(&*self.key));
        known.map_or_else(|| self.pseudonyms.subject(assigner, patient), |known| known.own)
    }

    fn own(&mut self, assigner: &str, patient: &str, encounter: Option<&str>) -> Identity {
        if assigner.len() + patient.len() > LONGEST {
            let own = self.pseudonyms.subject(assigner, patient);
            let encounter = encounter.map(|id| encounter_of(&self.pseudonyms, own, id));
            return Identity { own, subject: own, encounter, new: true };
        }
        write_key(&mut self.key, assigner, patient);
        if let Some(known) = self.recent.get_mut(&*self.key) {
            return known.identity(&self.pseudonyms, encounter, false);
        }
        let (mut patient, new) = match self.older.remove(&*self.key) {
            Some(known) => (known, false),
            None => (Patient { own: self.pseudonyms.subject(assigner, patient), encounter: None }, true),
        };
        let identity = patient.identity(&self.pseudonyms, encounter, new);
        if self.recent.len() >= PATIENTS {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(self.key.as_slice().into(), patient);
        identity
    }

    /// Forgets a patient whose token was not given after all.
    pub(super) fn forget(&mut self, assigner: &str, patient: &str) {
        write_key(&mut self.key, assigner, patient);
        self.recent.remove(&*self.key);
        self.older.remove(&*self.key);
    }
}

impl Patient {
    fn identity(&mut self, pseudonyms: &Pseudonyms, encounter: Option<&str>, new: bool) -> Identity {
        let own = self.own;
        let encounter = encounter.map(|id| match &self.encounter {
            Some((last, pseudonym)) if **last == *id => *pseudonym,
            _ => {
                let pseudonym = encounter_of(pseudonyms, own, id);
                if id.len() <= LONGEST {
                    self.encounter = Some((id.into(), pseudonym));
                }
                pseudonym
            }
        });
        Identity { own, subject: own, encounter, new }
    }
}

fn encounter_of(pseudonyms: &Pseudonyms, subject: SubjectId, id: &str) -> EncounterId {
    let mut digits = EncounterId::default();
    for (digit, byte) in digits.iter_mut().zip(pseudonyms.encounter(subject, id).bytes()) {
        *digit = byte;
    }
    digits
}

/// The assigner's length tells where the identifier begins.
fn write_key(key: &mut Vec<u8>, assigner: &str, patient: &str) {
    key.clear();
    key.extend_from_slice(&(assigner.len() as u64).to_le_bytes());
    key.extend_from_slice(assigner.as_bytes());
    key.extend_from_slice(patient.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities() -> Identities {
        Identities::new(Pseudonyms::new(b"a secret of a site").unwrap())
    }

    #[test]
    fn what_is_remembered_is_what_would_be_computed() {
        let mut identities = identities();
        let long = "x".repeat(LONGEST + 1);
        for patient in ["1", "2", "1", &long, &long] {
            for encounter in [None, Some("a"), Some("b"), Some("a")] {
                let identity = identities.of("mrn", patient, encounter);
                let subject = identities.pseudonyms().subject("mrn", patient);
                let expected = encounter.map(|id| identities.pseudonyms().encounter(subject, id));
                assert_eq!(identity.subject, subject);
                assert_eq!(identity.encounter.map(|id| String::from_utf8(id.to_vec()).unwrap()), expected);
            }
        }
        assert_eq!(identities.recent.len(), 2, "long identifiers are not kept");
    }

    #[test]
    fn a_patient_is_new_once_unless_forgotten() {
        let mut identities = identities();
        let mut new = |assigner: &str, patient: &str| identities.of(assigner, patient, None).new;
        assert_eq!([new("a", "bc"), new("a", "bc"), new("ab", "c")], [true, false, true]);
        identities.forget("a", "bc");
        assert!(identities.of("a", "bc", None).new);
        assert!(!identities.of("ab", "c", None).new);
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_who_comes_often() {
        let mut identities = identities();
        for i in 0..3 * PATIENTS {
            identities.of("a", &i.to_string(), None);
            if i % 1000 == 0 {
                let often = identities.of("a", "often", None);
                assert_eq!(often.new, i == 0, "{i}");
            }
        }
        assert!(identities.recent.len() + identities.older.len() <= 2 * PATIENTS);
        assert!(!format!("{identities:?}").contains("often"));
    }
}
