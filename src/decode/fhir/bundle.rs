//! Bundle: many resources in one record, which may refer to each other.

use std::borrow::Cow;

use super::super::{Reason, Reject};
use super::Sink;
use super::element::Element;
use super::kinds;
use super::reference::{id_of, kind_of};
use super::resource::{Index, Resource};

/// How deep Bundles may stand in Bundles: a batch's response holds searches, and no more is known of.
const DEPTH: usize = 4;

/// What an entry says.
enum Entry<'a> {
    /// The resource at that place of the list is as it stands there.
    Holds(usize),
    /// It is deleted.
    Deleted(usize),
    /// What is named so is deleted.
    DeletedElsewhere(Cow<'a, str>),
    /// What is named so has changed, but the notification does not hold it.
    NotSent(Cow<'a, str>),
}

/// Reads every entry's resource; an entry without one (a search, a response) is passed over.
///
/// A fault in one entry is a fault of the record: nothing of it may vanish.
///
/// A deletion names a type and an id, not the patient. What the newest version of the resource in
/// the same history said is withdrawn; if there is none, nobody can say here whose facts they
/// were, and the deletion is counted under the resource's type as not read. So is a resource of
/// which a subscription's notification holds the name only.
///
/// # Errors
/// The first entry's reject, with the place of the entry before its text.
pub(super) fn read<'a>(bundle: &Element<'_, 'a>, depth: usize, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    if depth > DEPTH {
        return Err(Reject::new(Reason::Syntax, format!("more than {DEPTH} Bundles stand in each other")));
    }
    let mut resources = Vec::new();
    let mut entries = Vec::new();
    for (place, entry) in bundle.elements("entry", "Bundle.entry")?.iter().enumerate() {
        entries.extend(self::entry(entry, &mut resources).map_err(|reject| within(place, reject))?.map(|e| (place, e)));
    }
    let is_history = bundle.text("type")?.as_deref() == Some("history");
    // A topic's notification is a history too, its status first (Subscriptions R5 Backport for R4).
    let notifies = is_history && resources.first().is_some_and(|first| is_notification(first));
    let index = Index::of(&resources)?;
    // A history stands newest first (R4, section 3.1.0.10), and what is read last replaces.
    if is_history && !notifies {
        entries.reverse();
    }
    for (place, entry) in entries {
        let read = match entry {
            Entry::Holds(at) => super::resource(&resources[at], &index, depth, sink),
            Entry::Deleted(at) => super::withdraw(&resources[at], &index, depth, sink),
            Entry::DeletedElsewhere(url) => match named(&url) {
                Some((kind, id)) => match index.named(kind, &id).filter(|_| is_history) {
                    Some(resource) => super::withdraw(resource, &index, depth, sink),
                    None => {
                        sink.skip(kind);
                        Ok(())
                    }
                },
                None => {
                    sink.skip(kinds::OTHER);
                    Ok(())
                }
            },
            Entry::NotSent(url) => {
                if notifies {
                    sink.skip(kind_of(&url).unwrap_or(kinds::OTHER));
                }
                Ok(())
            }
        };
        read.map_err(|reject| within(place, reject))?;
    }
    Ok(())
}

/// Reads one entry, and adds its resource to the list.
fn entry<'t, 'a>(entry: &Element<'t, 'a>, resources: &mut Vec<Resource<'t, 'a>>) -> Result<Option<Entry<'a>>, Reject> {
    let request = entry.element("request", "Bundle.entry.request")?;
    let deletes = match &request {
        Some(request) => request.text("method")?.as_deref() == Some("DELETE"),
        None => false,
    };
    let url = entry.word("fullUrl")?;
    if let Some(element) = entry.element("resource", "resource")? {
        resources.push(Resource::of(element, url)?);
        let at = resources.len() - 1;
        return Ok(Some(if deletes { Entry::Deleted(at) } else { Entry::Holds(at) }));
    }
    match request {
        Some(request) if deletes => Ok(request.text("url")?.or(url).map(Entry::DeletedElsewhere)),
        Some(_) | None => Ok(url.map(Entry::NotSent)),
    }
}

/// Type and id of what a request names; of a conditional one no id.
fn named(url: &str) -> Option<(&'static str, String)> {
    if url.contains('?') {
        let (before, _) = url.split_once('?')?;
        return Some((kinds::kind(before.rsplit('/').next()?), String::new()));
    }
    Some((kind_of(url)?, id_of(url)?.to_owned()))
}

fn is_notification(first: &Resource<'_, '_>) -> bool {
    // The status is Parameters in R4 and SubscriptionStatus, which R4 does not know, in R4B.
    first.kind == "Parameters" || first.kind == kinds::OTHER
}

fn within(place: usize, reject: Reject) -> Reject {
    Reject { detail: format!("entry {place}: {}", reject.detail), ..reject }
}
