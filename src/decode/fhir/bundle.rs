//! Bundle: many resources in one record, which may refer to each other.

use super::super::{Reason, Reject};
use super::Sink;
use super::element::Element;
use super::resource::{Index, Resource};

/// How deep Bundles may stand in Bundles: a batch's response holds searches, and no more is known of.
const DEPTH: usize = 4;

/// Reads every entry's resource; an entry without one (a request, a response) is passed over.
///
/// A fault in one entry is a fault of the record: nothing of it may vanish.
///
/// # Errors
/// The first entry's reject, with the place of the entry before its text.
pub(super) fn read<'a>(bundle: &Element<'a>, depth: usize, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    if depth > DEPTH {
        return Err(Reject::new(Reason::Syntax, format!("more than {DEPTH} Bundles stand in each other")));
    }
    let mut resources = Vec::new();
    let mut places = Vec::new();
    for (place, entry) in bundle.elements("entry", "Bundle.entry")?.iter().enumerate() {
        let read = || match entry.element("resource", "resource")? {
            Some(element) => Resource::of(element, entry.text("fullUrl")?).map(Some),
            None => Ok(None),
        };
        if let Some(resource) = read().map_err(|reject| within(place, reject))? {
            resources.push(resource);
            places.push(place);
        }
    }
    let index = Index::of(&resources)?;
    let mut order: Vec<usize> = (0..resources.len()).collect();
    // A history stands newest first (R4, section 3.1.0.10), and what is read last replaces.
    if bundle.text("type")?.as_deref() == Some("history") {
        order.reverse();
    }
    for at in order {
        super::resource(&resources[at], &index, depth, sink).map_err(|reject| within(places[at], reject))?;
    }
    Ok(())
}

fn within(place: usize, reject: Reject) -> Reject {
    Reject { detail: format!("entry {place}: {}", reject.detail), ..reject }
}
