//! A resource with its names, and the index by which references find it.

use std::borrow::Cow;
use std::collections::HashMap;

use super::super::{Reason, Reject};
use super::coding::has_code;
use super::element::Element;
use super::kinds;
use super::reference::id_of;

/// One resource of a record.
pub(super) struct Resource<'t, 'a> {
    /// Its R4 type, or [`kinds::OTHER`].
    pub(super) kind: &'static str,
    /// Its logical id.
    pub(super) id: Option<Cow<'a, str>>,
    /// The URL under which references in the same Bundle name it (`fullUrl`); `#id` of a contained resource.
    pub(super) url: Option<Cow<'a, str>>,
    /// Type and id of the resource that contains it.
    container: Option<(&'static str, Option<Cow<'a, str>>)>,
    /// Its fields.
    pub(super) element: Element<'t, 'a>,
    /// The resources that it contains, where it is of a type that is read.
    pub(super) contained: Vec<Resource<'t, 'a>>,
}

impl<'t, 'a> Resource<'t, 'a> {
    /// Takes an element of a record or of a Bundle's entry for a resource.
    ///
    /// # Errors
    /// `shape` if it has no `resourceType`, `field` if one of its names is of the wrong type.
    pub(super) fn of(element: Element<'t, 'a>, url: Option<Cow<'a, str>>) -> Result<Self, Reject> {
        let mut resource = Self::bare(element)?;
        resource.url = url;
        if super::is_read(resource.kind) {
            for element in resource.element.elements("contained", "contained resource")? {
                let mut part = Self::bare(element)?;
                part.url = part.id.as_ref().map(|id| Cow::Owned(format!("#{id}")));
                part.container = Some((resource.kind, resource.id.clone()));
                resource.contained.push(part);
            }
        }
        Ok(resource)
    }

    /// Whether it lives inside another, where its id means nothing to anybody else.
    pub(super) fn is_contained(&self) -> bool {
        self.container.is_some()
    }

    /// Whether the source gives its facts an identity.
    pub(super) fn is_named(&self) -> bool {
        self.id.is_some() && !matches!(self.container, Some((_, None)))
    }

    /// Identity of its facts at the source: `Type/id`, of a contained resource `Type/id/Type/id`,
    /// with `#part` where it has several.
    pub(super) fn name(&self, part: &str) -> Option<String> {
        let id = self.id.as_ref().filter(|_| self.is_named())?;
        let mut name = String::with_capacity(self.kind.len() + id.len() + part.len() + 2);
        if let Some((kind, Some(id))) = &self.container {
            name.extend([kind, "/", id, "/"]);
        }
        name.extend([self.kind, "/", id]);
        if !part.is_empty() {
            name.extend(["#", part]);
        }
        Some(name)
    }

    /// The id by which the rest of the world knows it: its own, else that of its `fullUrl`.
    pub(super) fn public_id(&self) -> Option<Cow<'a, str>> {
        if self.is_contained() {
            return None;
        }
        self.id.clone().or_else(|| self.url.as_ref().and_then(|url| super::json::part(url, id_of)))
    }

    /// Its business identifiers that say in which system they hold, in the order of the source.
    pub(super) fn identifiers(&self) -> Result<Vec<Identifier<'a>>, Reject> {
        let mut found = Vec::new();
        for identifier in self.element.elements("identifier", "Identifier")? {
            found.extend(read_identifier(&identifier)?);
        }
        Ok(found)
    }

    /// Those of them that a hospital gives; without the numbers that a state gives a person
    /// (v2-0203 `SS`, `DL`, `PPN`), which are shared by mistake and by fraud and bind no record.
    pub(super) fn shared_identifiers(&self) -> Result<Vec<Identifier<'a>>, Reject> {
        let mut found = Vec::new();
        for identifier in self.element.elements("identifier", "Identifier")? {
            if !has_code(&identifier, "type", &["SS", "DL", "PPN"])? {
                found.extend(read_identifier(&identifier)?.filter(|(system, _)| system != SSN));
            }
        }
        Ok(found)
    }

    fn bare(element: Element<'t, 'a>) -> Result<Self, Reject> {
        let name = element.text("resourceType")?;
        let name = name.ok_or_else(|| Reject::new(Reason::Shape, "a resource names no resourceType"))?;
        let kind = kinds::kind(&name);
        let element = element.of_kind(kind);
        Ok(Resource { kind, id: element.word("id")?, url: None, container: None, element, contained: Vec::new() })
    }
}

/// System of the United States' social security numbers.
const SSN: &str = "http://hl7.org/fhir/sid/us-ssn";

fn read_identifier<'a>(identifier: &Element<'_, 'a>) -> Result<Option<Identifier<'a>>, Reject> {
    Ok(identifier.word("system")?.zip(identifier.word("value")?))
}

/// A business identifier: system and value.
pub(super) type Identifier<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Finds the resources of one Bundle, or the contained ones of one resource.
#[derive(Default)]
pub(super) struct Index<'t, 'a> {
    by_url: HashMap<&'t str, &'t Resource<'t, 'a>>,
    by_name: HashMap<(&'static str, &'t str), &'t Resource<'t, 'a>>,
    patients: HashMap<Identifier<'a>, &'t Resource<'t, 'a>>,
}

impl<'t, 'a> Index<'t, 'a> {
    /// An index over all of them; of two versions of one resource it holds the first.
    pub(super) fn of(resources: &'t [Resource<'t, 'a>]) -> Result<Self, Reject> {
        let mut index = Index::default();
        for resource in resources {
            if let Some(url) = &resource.url {
                index.by_url.entry(url).or_insert(resource);
            }
            if let Some(id) = &resource.id {
                index.by_name.entry((resource.kind, id)).or_insert(resource);
            }
            if resource.kind == "Patient" && !resource.is_contained() {
                for identifier in resource.identifiers()? {
                    index.patients.entry(identifier).or_insert(resource);
                }
            }
        }
        Ok(index)
    }

    /// The resource under a `fullUrl`, or under `#id`.
    pub(super) fn at(&self, url: &str) -> Option<&'t Resource<'t, 'a>> {
        self.by_url.get(url).copied()
    }

    /// The resource of that type and logical id.
    pub(super) fn named(&self, kind: &'static str, id: &str) -> Option<&'t Resource<'t, 'a>> {
        self.by_name.get(&(kind, id)).copied()
    }

    /// The Patient who carries the identifier.
    pub(super) fn patient(&self, identifier: &Identifier<'a>) -> Option<&'t Resource<'t, 'a>> {
        self.patients.get(identifier).copied()
    }
}
