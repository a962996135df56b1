//! What a FHIR resource says, read a second time: over plain `serde_json::Value`, by other hands
//! than the decoder's, one line a fact.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate};
use serde_json::Value as Json;

use crate::decode::{Fact, Value};

/// Types that are read; of others not even what they contain is looked at.
pub(super) const READ: [&str; 30] = [
    "AdverseEvent",
    "AllergyIntolerance",
    "CarePlan",
    "ClinicalImpression",
    "Composition",
    "Condition",
    "Consent",
    "DetectedIssue",
    "DeviceRequest",
    "DiagnosticReport",
    "DocumentReference",
    "Encounter",
    "EpisodeOfCare",
    "FamilyMemberHistory",
    "Flag",
    "Goal",
    "ImagingStudy",
    "Immunization",
    "Media",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationRequest",
    "MedicationStatement",
    "NutritionOrder",
    "Observation",
    "Patient",
    "Procedure",
    "QuestionnaireResponse",
    "ServiceRequest",
    "Specimen",
];

/// The resources of a record by their `fullUrl`.
pub(super) struct World<'j> {
    pub(super) resources: Vec<(Option<&'j str>, &'j Json)>,
}

impl<'j> World<'j> {
    pub(super) fn of(record: &'j Json) -> Self {
        let mut world = World { resources: Vec::new() };
        world.add(None, record);
        world
    }

    fn add(&mut self, url: Option<&'j str>, resource: &'j Json) {
        if resource["resourceType"] != "Bundle" {
            self.resources.push((url, resource));
        }
        for entry in list(&resource["entry"]) {
            if entry["resource"].is_object() {
                self.add(entry["fullUrl"].as_str(), &entry["resource"]);
            }
        }
    }

    fn find(&self, reference: &str, holder: &'j Json) -> Option<&'j Json> {
        if let Some(id) = reference.strip_prefix('#') {
            return list(&holder["contained"]).iter().find(|part| part["id"] == id);
        }
        let by_url = self.resources.iter().find(|(url, _)| *url == Some(reference));
        let by_name = || {
            let named =
                |r: &Json| format!("{}/{}", r["resourceType"].as_str().unwrap_or(""), r["id"].as_str().unwrap_or(""));
            self.resources.iter().find(|(_, resource)| named(resource) == reference)
        };
        by_url.or_else(by_name).map(|(_, resource)| *resource)
    }

    /// The id of what a reference to a resource of the type means; `None` if it means another thing.
    fn id(&self, kind: &str, reference: &Json, holder: &'j Json) -> Option<String> {
        let text = reference["reference"].as_str()?;
        match self.find(text, holder) {
            Some(found) if found["resourceType"] == "Device" => self.id(kind, &found["patient"], found),
            Some(found) if found["resourceType"] != kind => None,
            Some(found) => {
                let url = self.resources.iter().find(|(_, r)| std::ptr::eq(*r, found)).and_then(|(url, _)| *url);
                found["id"].as_str().filter(|_| !text.starts_with('#')).map(str::to_owned).or(url.map(tail)).or_else(
                    || {
                        let first = &found["identifier"][0];
                        Some(format!("{}|{}", first["system"].as_str()?, first["value"].as_str()?))
                    },
                )
            }
            None => (text.starts_with("urn:") || text.contains(&format!("{kind}/"))).then(|| tail(text)),
        }
    }
}

fn tail(reference: &str) -> String {
    let whole = reference.split("/_history").next().unwrap();
    whole.rsplit(['/', ':']).next().unwrap().to_owned()
}

pub(super) fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

/// `system|code` of a CodeableConcept.
fn concept(json: &Json) -> Option<(String, String)> {
    let preferred = ["loinc.org", "snomed.info", "rxnorm", "icd-10-cm", "cvx"];
    let codings: Vec<_> = list(&json["coding"]).iter().filter(|coding| coding["code"].is_string()).collect();
    let liked =
        |coding: &&&Json| preferred.iter().any(|word| coding["system"].as_str().is_some_and(|s| s.contains(word)));
    let best = codings.iter().find(liked).or(codings.iter().find(|c| c["system"].is_string())).or(codings.first());
    match best {
        Some(coding) => Some((
            coding["system"].as_str().unwrap_or("urn:auscult:text").to_owned(),
            coding["code"].as_str()?.to_owned(),
        )),
        None => {
            let text = json["text"].as_str().or(json["coding"][0]["display"].as_str())?;
            Some(("urn:auscult:text".to_owned(), text.to_owned()))
        }
    }
}

fn micros(json: &Json) -> Option<i64> {
    let text = json.as_str()?;
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_micros());
    }
    let date = format!("{text}{}", ["-01-01", "", "", "-01", "", "", ""].get(text.len() - 4).unwrap());
    let day = NaiveDate::parse_from_str(&date, "%Y-%m-%d").unwrap();
    Some(day.and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp_micros())
}

/// A dateTime, or the start of a Period.
fn when(json: &Json) -> Option<i64> {
    micros(json)
        .or_else(|| micros(&json["start"]))
        .or_else(|| micros(&json["end"]))
        .or_else(|| micros(&json["event"][0]))
}

/// The one member whose name begins so.
fn choice<'j>(json: &'j Json, start: &str) -> Option<(&'j str, &'j Json)> {
    let of_it = json
        .as_object()?
        .iter()
        .filter(|(name, _)| name.strip_prefix(start).is_some_and(|rest| rest.starts_with(char::is_uppercase)));
    of_it.map(|(name, value)| (name.as_str(), value)).next()
}

fn quoted(text: &str) -> String {
    // A text of several lines may be laid out otherwise; a waveform in another order.
    match serde_json::from_str::<Json>(text).ok().filter(Json::is_object) {
        Some(json) => json.to_string(),
        None => format!("{:?}", text.split_whitespace().collect::<Vec<_>>().join(" ")),
    }
}

fn unit(quantity: &Json) -> Option<&str> {
    let code = quantity["code"].as_str();
    match quantity["system"].as_str() {
        Some("http://unitsofmeasure.org") if code.is_some() => code,
        _ => quantity["unit"].as_str().or(code),
    }
}

fn written(quantity: &Json) -> String {
    format!("{}{}", quantity["comparator"].as_str().unwrap_or(""), quantity["value"])
}

/// Value and unit as [`line`] writes them; `None` where nothing was found.
fn value(name: &str, json: &Json) -> Option<(String, String)> {
    let with = |text: String, unit: Option<&str>| Some((text, unit.unwrap_or("").to_owned()));
    match name {
        "valueQuantity" | "doseQuantity" | "dose" if json["value"].is_null() => None,
        "valueQuantity" | "dose" | "rateQuantity" if json["comparator"].is_null() => {
            with(format!("{:?}", json["value"].as_f64()?), unit(json))
        }
        "valueQuantity" | "dose" | "rateQuantity" => with(quoted(&written(json)), unit(json)),
        "valueCodeableConcept" => with(quoted(&concept(json)?.1), None),
        "valueString" | "valueDateTime" | "valueTime" => with(quoted(json.as_str()?), None),
        "valueBoolean" => with(json.to_string(), None),
        "valueInteger" => with(format!("{:?}", json.as_f64()?), None),
        "valueRange" => match (json["low"]["value"].is_null(), json["high"]["value"].is_null()) {
            (false, false) => {
                with(quoted(&format!("{}-{}", json["low"]["value"], json["high"]["value"])), unit(&json["low"]))
            }
            (false, true) => with(quoted(&format!(">={}", json["low"]["value"])), unit(&json["low"])),
            _ => with(quoted(&format!("<={}", json["high"]["value"])), unit(&json["high"])),
        },
        "valueRatio" | "rateRatio" => {
            let (above, below) = (&json["numerator"], &json["denominator"]);
            let unit = match (unit(above), unit(below)) {
                (Some(above), Some(below)) => format!("{above}/{below}"),
                (above, below) => {
                    format!("{}{}", above.unwrap_or(""), below.map_or(String::new(), |b| format!("/{b}")))
                }
            };
            with(quoted(&format!("{}:{}", written(above), written(below))), Some(&unit))
        }
        "valuePeriod" => with(
            quoted(&format!("{}/{}", json["start"].as_str().unwrap_or(""), json["end"].as_str().unwrap_or(""))),
            None,
        ),
        "valueSampledData" => {
            let mut samples = json.clone();
            samples["origin"] = json["origin"]["value"].clone();
            with(samples.to_string(), unit(&json["origin"]))
        }
        other => panic!("{other}"),
    }
}

/// A fact as a line.
pub(super) fn line(fact: &Fact<'_>) -> String {
    let value = match &fact.value {
        Value::None => "-".to_owned(),
        Value::Number(number) => format!("{number:?}"),
        Value::Text(text) | Value::Code(text) => quoted(text),
        Value::Bool(truth) => truth.to_string(),
    };
    let patient = match &fact.assigner {
        Some(assigner) => format!("{assigner}|{}", fact.patient),
        None => fact.patient.to_string(),
    };
    format!(
        "{} {}|{} = {value} [{}] @{:?} in {:?} {}",
        patient,
        fact.system.as_deref().unwrap_or("MEDS"),
        fact.code,
        fact.unit.as_deref().unwrap_or(""),
        fact.time,
        fact.encounter.as_deref(),
        fact.op.as_str()
    )
}

/// What all lines of a resource share.
struct Lines {
    patient: String,
    encounter: Option<String>,
    time: Option<i64>,
    op: &'static str,
    lines: Vec<String>,
}

impl Lines {
    fn push(&mut self, (system, code): (String, String), value: &str, unit: &str) {
        let Lines { patient, encounter, time, op, .. } = self;
        self.lines
            .push(format!("{patient} {system}|{code} = {value} [{unit}] @{time:?} in {:?} {op}", encounter.as_deref()));
    }

    fn meds(&mut self, code: &str, time: Option<i64>) {
        self.time = time;
        self.push(("MEDS".to_owned(), code.to_owned()), "-", "");
    }
}

fn strip(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            c if !inside => text.push(c),
            _ => {}
        }
    }
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// The lines of the facts that a resource is, contained ones not included.
pub(super) fn said<'j>(resource: &'j Json, holder: &'j Json, world: &World<'j>) -> Vec<String> {
    let r = resource;
    let kind = r["resourceType"].as_str().unwrap();
    let status = r["status"].as_str().or(r["lifecycleStatus"].as_str()).unwrap_or("");
    let verification = r["verificationStatus"]["coding"][0]["code"].as_str().unwrap_or("");
    let withdrawn = ["entered-in-error", "cancelled", "not-done", "not-taken", "refuted"];
    let pending = ["registered", "planned", "draft", "proposed", "intended"];
    let no_order = r["doNotPerform"] == true || ["proposal", "option"].contains(&r["intent"].as_str().unwrap_or(""));
    if pending.contains(&status) || no_order || !READ.contains(&kind) {
        return Vec::new();
    }
    let subject = if r["patient"].is_object() { &r["patient"] } else { &r["subject"] };
    let patient = match kind {
        "Patient" => {
            let url = world.resources.iter().find(|(_, other)| std::ptr::eq(*other, r)).and_then(|(url, _)| *url);
            r["id"].as_str().map(str::to_owned).or(url.map(tail))
        }
        _ => world.id("Patient", subject, holder),
    };
    let Some(patient) = patient else { return Vec::new() };
    let visit = if r["context"]["reference"].is_string() { &r["context"] } else { &r["encounter"] };
    let encounter = world.id("Encounter", visit, holder);
    let op = if withdrawn.contains(&status) || withdrawn.contains(&verification) { "retract" } else { "assert" };
    let mut out = Lines { patient, encounter, time: None, op, lines: Vec::new() };
    let first = |names: &[&str]| names.iter().find_map(|name| when(r.pointer(name).unwrap_or(&Json::Null)));
    let word = |names: &[&str], otherwise: &str| {
        let found =
            names.iter().find_map(|name| r[*name].as_str().map(str::to_owned).or_else(|| Some(concept(&r[*name])?.1)));
        found.map_or(otherwise.to_owned(), |text| quoted(&text))
    };

    match kind {
        "Patient" => {
            let gender = r["gender"].as_str().map(|g| format!("GENDER//{}", g[..1].to_uppercase()));
            if let Some(gender) = gender {
                out.meds(&gender, None);
            }
            for (field, code) in [("birthDate", "MEDS_BIRTH"), ("deceasedDateTime", "MEDS_DEATH")] {
                if r[field].is_string() {
                    out.meds(code, micros(&r[field]));
                }
            }
        }
        "Encounter" => {
            out.encounter = r["id"].as_str().map(str::to_owned);
            let class = r["class"]["code"].as_str().unwrap();
            let mut stays = vec![("ENCOUNTER", class, &r["period"])];
            for stay in list(&r["classHistory"]).iter().filter(|stay| stay["class"]["code"] != class) {
                stays.push(("ENCOUNTER", stay["class"]["code"].as_str().unwrap(), &stay["period"]));
            }
            for stay in list(&r["location"]).iter().filter(|stay| stay["status"] != "reserved") {
                let there = stay["location"]["reference"].as_str().and_then(|text| world.find(text, holder));
                let name = there.and_then(|there| there["name"].as_str()).or(stay["location"]["display"].as_str());
                stays.push(("LOCATION", name.unwrap(), &stay["period"]));
            }
            for (at, (what, name, period)) in stays.into_iter().enumerate() {
                for (side, edge) in [("start", "START"), ("end", "END")] {
                    let over = at > 0 || status == "finished" || side == "start";
                    if period[side].is_string() && over {
                        out.time = micros(&period[side]);
                        let went =
                            concept(&r["hospitalization"]["dischargeDisposition"]).filter(|_| at == 0 && edge == "END");
                        let value = went.map_or("-".to_owned(), |(_, code)| quoted(&code));
                        out.push(("MEDS".to_owned(), format!("{what}//{name}//{edge}")), &value, "");
                    }
                }
            }
        }
        "Observation" => {
            let focus = list(&r["focus"]).iter().any(|focus| focus["reference"] != subject["reference"]);
            if focus {
                return Vec::new();
            }
            out.time = choice(r, "effective").and_then(|(_, time)| when(time)).or(micros(&r["issued"]));
            for part in std::iter::once(r).chain(list(&r["component"])) {
                let code = concept(&part["code"]).unwrap();
                match choice(part, "value").and_then(|(name, json)| value(name, json)) {
                    Some((value, unit)) => out.push(code, &value, &unit),
                    None if op == "retract" => out.push(code, "-", ""),
                    None => {}
                }
            }
        }
        "DiagnosticReport" => {
            out.time = choice(r, "effective").and_then(|(_, time)| when(time)).or(micros(&r["issued"]));
            let conclusion = r["conclusion"].as_str().map_or("-".to_owned(), quoted);
            out.push(concept(&r["code"]).unwrap(), &conclusion, "");
            for code in list(&r["conclusionCode"]) {
                out.push(concept(code).unwrap(), "-", "");
            }
        }
        "MedicationRequest" | "MedicationAdministration" | "MedicationStatement" | "MedicationDispense" => {
            out.time = match kind {
                "MedicationRequest" => micros(&r["authoredOn"]),
                "MedicationDispense" => first(&["/whenHandedOver", "/whenPrepared"]),
                _ => choice(r, "effective").and_then(|(_, time)| when(time)).or(micros(&r["dateAsserted"])),
            };
            let (text, unit) = match kind {
                "MedicationRequest" => (word(&["intent"], "-"), String::new()),
                "MedicationStatement" => (quoted(status), String::new()),
                "MedicationDispense" => ("\"dispense\"".to_owned(), String::new()),
                _ => ["dose", "rateQuantity", "rateRatio"]
                    .iter()
                    .find_map(|name| value(name, Some(&r["dosage"][*name]).filter(|json| json.is_object())?))
                    .unwrap_or(("-".to_owned(), String::new())),
            };
            let reference = &r["medicationReference"]["reference"];
            let there = reference.as_str().and_then(|text| world.find(text, holder));
            let code = concept(&r["medicationCodeableConcept"]).or_else(|| concept(&there?["code"]));
            let mixed: Vec<_> = there
                .map_or(&[][..], |there| list(&there["ingredient"]))
                .iter()
                .filter_map(|part| concept(&part["itemCodeableConcept"]))
                .collect();
            if let Some(code) = code {
                out.push(code, &text, &unit);
            } else if !mixed.is_empty() {
                let text = if kind == "MedicationAdministration" { "-" } else { &text };
                mixed.into_iter().for_each(|code| out.push(code, text, ""));
            } else {
                let name = reference.as_str().map(|text| ("urn:auscult:reference".to_owned(), text.to_owned()));
                out.push(name.unwrap(), &text, &unit);
            }
        }
        "Composition" => {
            out.time = micros(&r["date"]);
            out.push(concept(&r["type"]).unwrap(), &word(&["title"], "-"), "");
            let mut sections: Vec<&Json> = list(&r["section"]).iter().collect();
            while let Some(section) = sections.pop() {
                let text = section["text"]["div"].as_str().map(strip).filter(|text| !text.trim().is_empty());
                if let Some(text) = text {
                    let code = concept(&section["code"])
                        .or_else(|| Some(("urn:auscult:text".to_owned(), section["title"].as_str()?.to_owned())));
                    out.push(code.unwrap(), &quoted(&text), "");
                }
                sections.extend(list(&section["section"]));
            }
        }
        "DocumentReference" => {
            out.time = first(&["/context/period", "/date"]);
            out.push(concept(&r["type"]).unwrap(), &word(&["description"], "-"), "");
        }
        "FamilyMemberHistory" => {
            out.time = micros(&r["date"]);
            let code = ("MEDS".to_owned(), format!("FAMILY_HISTORY//{}", concept(&r["relationship"]).unwrap().1));
            for condition in list(&r["condition"]) {
                out.push(code.clone(), &quoted(&concept(&condition["code"]).unwrap().1), "");
            }
            if list(&r["condition"]).is_empty() {
                out.push(code, "-", "");
            }
        }
        _ => {
            let times: BTreeMap<&str, &[&str]> = BTreeMap::from([
                ("AdverseEvent", &["/date"][..]),
                ("AllergyIntolerance", &["/onsetDateTime", "/recordedDate"]),
                ("CarePlan", &["/period", "/created"]),
                ("Condition", &["/onsetDateTime", "/onsetPeriod", "/recordedDate"]),
                ("DetectedIssue", &["/identifiedDateTime"]),
                ("Goal", &["/startDate", "/statusDate"]),
                ("ImagingStudy", &["/started"]),
                ("Immunization", &["/occurrenceDateTime"]),
                ("Procedure", &["/performedDateTime", "/performedPeriod"]),
                ("ServiceRequest", &["/authoredOn", "/occurrenceDateTime", "/occurrencePeriod"]),
                ("Specimen", &["/collection/collectedDateTime", "/collection/collectedPeriod", "/receivedTime"]),
            ]);
            out.time = first(times[kind]);
            let value = match kind {
                "AdverseEvent" => word(&["seriousness"], "-"),
                "AllergyIntolerance" => word(&["type"], "\"allergy-intolerance\""),
                "CarePlan" | "ServiceRequest" => word(&["intent"], "-"),
                "DetectedIssue" => word(&["severity"], "\"issue\""),
                "Goal" => word(&["achievementStatus", "lifecycleStatus"], "\"goal\""),
                "ImagingStudy" => word(&["description"], "-"),
                "Specimen" => word(&["status"], "\"specimen\""),
                _ => "-".to_owned(),
            };
            let mut codes = Vec::new();
            for field in [
                "code",
                "event",
                "vaccineCode",
                "description",
                "category",
                "procedureCode",
                "modality",
                "orderDetail",
                "type",
            ] {
                let is_code = match field {
                    "category" => kind == "CarePlan",
                    "type" => kind == "Specimen",
                    "description" => kind == "Goal",
                    _ => true,
                };
                let all = if r[field].is_array() { list(&r[field]) } else { std::slice::from_ref(&r[field]) };
                codes.extend(all.iter().filter(|_| is_code).filter_map(concept));
            }
            let activities = list(&r["activity"]).iter().filter(|activity| activity["detail"]["doNotPerform"] != true);
            let mut of_activities: Vec<_> =
                activities.filter_map(|activity| concept(&activity["detail"]["code"])).collect();
            let modalities = list(&r["series"]).iter().map(|series| &series["modality"]);
            of_activities.extend(
                modalities.map(|m| (m["system"].as_str().unwrap().to_owned(), m["code"].as_str().unwrap().to_owned())),
            );
            codes.extend(of_activities);
            // Each once.
            let mut seen = Vec::new();
            codes.retain(|code| {
                let is_new = !seen.contains(code);
                seen.push(code.clone());
                is_new
            });
            codes.into_iter().for_each(|code| out.push(code, &value, ""));
        }
    }
    out.lines
}
