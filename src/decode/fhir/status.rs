//! What a resource's status says of its facts.

use super::super::Reject;
use super::coding::has_code;
use super::element::Element;
use crate::events::Op;

/// Whether the facts of a resource hold.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// They hold.
    Holds,
    /// They were in error, called off or did not happen: what was said under their ids is withdrawn.
    Withdrawn,
    /// Nothing has happened yet.
    Pending,
}

impl Standing {
    /// What happens to the facts; `None`: there are none yet.
    pub(super) fn op(self) -> Option<Op> {
        match self {
            Standing::Holds => Some(Op::Assert),
            Standing::Withdrawn => Some(Op::Retract),
            Standing::Pending => None,
        }
    }
}

/// Reads the field `status`, whose words mean the same in every type that is read.
///
/// A missing or unknown status leaves the facts standing: what was observed is not thrown
/// away for it. A document has a second status of its content (`docStatus`).
pub(super) fn by_status(element: &Element<'_, '_>) -> Result<Standing, Reject> {
    if element.text("docStatus")?.as_deref() == Some("entered-in-error") {
        return Ok(Standing::Withdrawn);
    }
    Ok(by_word(element.text("status")?.as_deref()))
}

/// Reads the field `lifecycleStatus` of a Goal.
pub(super) fn by_lifecycle(element: &Element<'_, '_>) -> Result<Standing, Reject> {
    Ok(by_word(element.text("lifecycleStatus")?.as_deref()))
}

fn by_word(word: Option<&str>) -> Standing {
    match word {
        // The last four: MedicationDispense, MedicationStatement, Goal and Consent, DocumentReference.
        Some("entered-in-error" | "cancelled" | "not-done" | "declined" | "not-taken" | "rejected" | "superseded") => {
            Standing::Withdrawn
        }
        // Observation and DiagnosticReport, Encounter, Procedure, MedicationRequest; EpisodeOfCare,
        // Goal and Consent, MedicationStatement.
        Some("registered" | "planned" | "preparation" | "draft" | "waitlist" | "proposed" | "intended") => {
            Standing::Pending
        }
        Some(_) | None => Standing::Holds,
    }
}

/// Reads the field `verificationStatus` of a Condition or an AllergyIntolerance.
pub(super) fn by_verification(element: &Element<'_, '_>) -> Result<Standing, Reject> {
    Ok(match has_code(element, "verificationStatus", &["entered-in-error", "refuted"])? {
        true => Standing::Withdrawn,
        false => Standing::Holds,
    })
}
