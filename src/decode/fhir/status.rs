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
/// away for it.
pub(super) fn by_status(element: &Element<'_>) -> Result<Standing, Reject> {
    Ok(match element.text("status")?.as_deref() {
        Some("entered-in-error" | "cancelled" | "not-done") => Standing::Withdrawn,
        // Observation and DiagnosticReport, Encounter, Procedure, MedicationRequest.
        Some("registered" | "planned" | "preparation" | "draft") => Standing::Pending,
        Some(_) | None => Standing::Holds,
    })
}

/// Reads the field `verificationStatus` of a Condition or an AllergyIntolerance.
pub(super) fn by_verification(element: &Element<'_>) -> Result<Standing, Reject> {
    Ok(match has_code(element, "verificationStatus", &["entered-in-error", "refuted"])? {
        true => Standing::Withdrawn,
        false => Standing::Holds,
    })
}
