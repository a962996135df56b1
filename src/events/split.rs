//! Which subjects a model may learn from, and which judge it.

use super::SubjectId;

/// Part of the subjects, with the sentinel names of the MEDS `SubjectSplitSchema`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Split {
    /// Models are fitted on these (80 %).
    Train,
    /// Calibration and thresholds are fitted on these (10 %).
    Tuning,
    /// Figures are reported on these, which nothing was fitted on (10 %).
    HeldOut,
}

impl Split {
    /// The name in `subject_splits.parquet`.
    pub fn as_str(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Tuning => "tuning",
            Split::HeldOut => "held_out",
        }
    }
}

/// The split of a subject: a function of the pseudonym alone, so that a subject stays on
/// its side for ever, in every model and on every machine.
pub fn split_of(subject: SubjectId) -> Split {
    // The pseudonym's low bits choose the partition; a multiplication mixes them all.
    match (subject.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 {
        x if x % 10 == 8 => Split::Tuning,
        x if x % 10 == 9 => Split::HeldOut,
        _ => Split::Train,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_have_their_sizes_in_every_bucket() {
        for bucket in 0..4 {
            let of = |split| (0..40_000).filter(|i| split_of(SubjectId(i * 4 + bucket)) == split).count();
            assert!((31_000..33_000).contains(&of(Split::Train)));
            assert!((3_500..4_500).contains(&of(Split::Tuning)));
            assert!((3_500..4_500).contains(&of(Split::HeldOut)));
        }
    }
}
