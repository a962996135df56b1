//! What is measured in the simulated hospital, and how an illness shows in it.

/// LOINC.
pub(super) const LOINC: &str = "http://loinc.org";
/// ICD-10-CM.
pub(super) const ICD10CM: &str = "http://hl7.org/fhir/sid/icd-10-cm";
/// RxNorm.
pub(super) const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";

/// A code with its system and meaning.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Coding {
    pub(super) system: &'static str,
    pub(super) code: &'static str,
    pub(super) display: &'static str,
}

/// How a patient comes to be worse.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Illness {
    Septic,
    Respiratory,
    Cardiac,
}

/// When something is measured.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Rhythm {
    /// At every round of the nurse.
    Round,
    /// At every fourth round.
    FourthRound,
    /// With every blood sample.
    Sample,
    /// With a part of the samples, and with all of the very ill.
    SomeSamples,
}

/// Another unit in which a part of the hospital's devices report: value · scale + offset.
#[derive(PartialEq, Debug)]
pub(super) struct Unit {
    pub(super) unit: &'static str,
    pub(super) scale: f64,
    pub(super) offset: f64,
    pub(super) decimals: usize,
}

/// One thing that is measured.
#[derive(PartialEq, Debug)]
pub(super) struct Signal {
    pub(super) coding: Coding,
    pub(super) unit: &'static str,
    pub(super) decimals: usize,
    /// What devices can report.
    pub(super) range: (f64, f64),
    /// Mean and spread of the healthy between patients.
    pub(super) usual: (f64, f64),
    /// Spread from one measurement to the next.
    pub(super) noise: f64,
    /// Change at full severity, septic, respiratory and cardiac.
    pub(super) effect: [f64; 3],
    pub(super) rhythm: Rhythm,
    pub(super) other: Option<Unit>,
}

const fn loinc(code: &'static str, display: &'static str) -> Coding {
    Coding { system: LOINC, code, display }
}

/// Everything that is measured, vital signs first.
pub(super) const SIGNALS: [Signal; 15] = [
    Signal {
        coding: loinc("8867-4", "Heart rate"),
        unit: "/min",
        decimals: 0,
        range: (25.0, 220.0),
        usual: (78.0, 11.0),
        noise: 6.0,
        effect: [36.0, 24.0, 30.0],
        rhythm: Rhythm::Round,
        other: None,
    },
    Signal {
        coding: loinc("9279-1", "Respiratory rate"),
        unit: "/min",
        decimals: 0,
        range: (5.0, 60.0),
        usual: (16.5, 2.0),
        noise: 1.8,
        effect: [9.0, 15.0, 9.0],
        rhythm: Rhythm::Round,
        other: None,
    },
    Signal {
        coding: loinc("8480-6", "Systolic blood pressure"),
        unit: "mm[Hg]",
        decimals: 0,
        range: (45.0, 250.0),
        usual: (129.0, 15.0),
        noise: 9.0,
        effect: [-36.0, -8.0, -34.0],
        rhythm: Rhythm::Round,
        other: Some(Unit { unit: "mmHg", scale: 1.0, offset: 0.0, decimals: 0 }),
    },
    Signal {
        coding: loinc("8462-4", "Diastolic blood pressure"),
        unit: "mm[Hg]",
        decimals: 0,
        range: (20.0, 150.0),
        usual: (74.0, 9.0),
        noise: 6.0,
        effect: [-18.0, -3.0, -14.0],
        rhythm: Rhythm::Round,
        other: Some(Unit { unit: "mmHg", scale: 1.0, offset: 0.0, decimals: 0 }),
    },
    Signal {
        coding: loinc("2708-6", "Oxygen saturation in Arterial blood"),
        unit: "%",
        decimals: 0,
        range: (55.0, 100.0),
        usual: (96.6, 1.3),
        noise: 1.0,
        effect: [-4.0, -11.0, -6.0],
        rhythm: Rhythm::Round,
        other: None,
    },
    Signal {
        coding: loinc("8310-5", "Body temperature"),
        unit: "Cel",
        decimals: 1,
        range: (33.0, 42.0),
        usual: (36.8, 0.25),
        noise: 0.2,
        effect: [1.6, 0.6, 0.0],
        rhythm: Rhythm::FourthRound,
        other: Some(Unit { unit: "[degF]", scale: 1.8, offset: 32.0, decimals: 1 }),
    },
    Signal {
        coding: loinc("9269-2", "Glasgow coma score total"),
        unit: "{score}",
        decimals: 0,
        range: (3.0, 15.0),
        usual: (14.9, 0.3),
        noise: 0.2,
        effect: [-3.5, -2.5, -2.5],
        rhythm: Rhythm::FourthRound,
        other: None,
    },
    Signal {
        coding: loinc("2524-7", "Lactate [Moles/volume] in Serum or Plasma"),
        unit: "mmol/L",
        decimals: 1,
        range: (0.3, 20.0),
        usual: (1.2, 0.3),
        noise: 0.2,
        effect: [3.8, 1.2, 3.0],
        rhythm: Rhythm::SomeSamples,
        other: None,
    },
    Signal {
        coding: loinc("2160-0", "Creatinine [Mass/volume] in Serum or Plasma"),
        unit: "mg/dL",
        decimals: 2,
        range: (0.2, 15.0),
        usual: (0.95, 0.2),
        noise: 0.06,
        effect: [1.3, 0.2, 0.9],
        rhythm: Rhythm::Sample,
        other: None,
    },
    Signal {
        coding: loinc("6690-2", "Leukocytes [#/volume] in Blood by Automated count"),
        unit: "10*3/uL",
        decimals: 1,
        range: (0.2, 80.0),
        usual: (8.6, 2.2),
        noise: 0.7,
        effect: [9.0, 4.0, 1.5],
        rhythm: Rhythm::Sample,
        other: Some(Unit { unit: "10*9/L", scale: 1.0, offset: 0.0, decimals: 1 }),
    },
    Signal {
        coding: loinc("2823-3", "Potassium [Moles/volume] in Serum or Plasma"),
        unit: "mmol/L",
        decimals: 1,
        range: (2.0, 8.5),
        usual: (4.1, 0.3),
        noise: 0.2,
        effect: [0.6, 0.2, 0.5],
        rhythm: Rhythm::Sample,
        other: None,
    },
    Signal {
        coding: loinc("2951-2", "Sodium [Moles/volume] in Serum or Plasma"),
        unit: "mmol/L",
        decimals: 0,
        range: (110.0, 170.0),
        usual: (139.0, 2.6),
        noise: 1.2,
        effect: [-1.0, 0.0, -2.0],
        rhythm: Rhythm::Sample,
        other: None,
    },
    Signal {
        coding: loinc("718-7", "Hemoglobin [Mass/volume] in Blood"),
        unit: "g/dL",
        decimals: 1,
        range: (4.0, 20.0),
        usual: (12.8, 1.6),
        noise: 0.3,
        effect: [-0.8, 0.0, -0.5],
        rhythm: Rhythm::Sample,
        other: Some(Unit { unit: "g/L", scale: 10.0, offset: 0.0, decimals: 0 }),
    },
    Signal {
        coding: loinc("777-3", "Platelets [#/volume] in Blood by Automated count"),
        unit: "10*3/uL",
        decimals: 0,
        range: (5.0, 1200.0),
        usual: (240.0, 60.0),
        noise: 12.0,
        effect: [-90.0, 0.0, -20.0],
        rhythm: Rhythm::Sample,
        other: Some(Unit { unit: "10*9/L", scale: 1.0, offset: 0.0, decimals: 0 }),
    },
    Signal {
        coding: loinc("1988-5", "C reactive protein [Mass/volume] in Serum or Plasma"),
        unit: "mg/L",
        decimals: 0,
        range: (0.0, 500.0),
        usual: (24.0, 16.0),
        noise: 5.0,
        effect: [160.0, 70.0, 15.0],
        rhythm: Rhythm::SomeSamples,
        other: None,
    },
];

/// A reason for admission: diagnosis, the drug given for it, what it may turn into.
#[derive(Debug)]
pub(super) struct Reason {
    pub(super) diagnosis: Coding,
    pub(super) drug: Coding,
    pub(super) illness: Illness,
}

const fn icd(code: &'static str, display: &'static str) -> Coding {
    Coding { system: ICD10CM, code, display }
}

const fn drug(code: &'static str, display: &'static str) -> Coding {
    Coding { system: RXNORM, code, display }
}

/// Why patients are admitted.
pub(super) const REASONS: [Reason; 6] = [
    Reason {
        diagnosis: icd("J18.9", "Pneumonia, unspecified organism"),
        drug: drug("2193", "ceftriaxone"),
        illness: Illness::Respiratory,
    },
    Reason {
        diagnosis: icd("N39.0", "Urinary tract infection, site not specified"),
        drug: drug("2193", "ceftriaxone"),
        illness: Illness::Septic,
    },
    Reason {
        diagnosis: icd("K81.0", "Acute cholecystitis"),
        drug: drug("2193", "ceftriaxone"),
        illness: Illness::Septic,
    },
    Reason {
        diagnosis: icd("I50.9", "Heart failure, unspecified"),
        drug: drug("4603", "furosemide"),
        illness: Illness::Cardiac,
    },
    Reason {
        diagnosis: icd("I21.4", "Non-ST elevation (NSTEMI) myocardial infarction"),
        drug: drug("5224", "heparin"),
        illness: Illness::Cardiac,
    },
    Reason {
        diagnosis: icd("J44.1", "Chronic obstructive pulmonary disease with (acute) exacerbation"),
        drug: drug("8640", "prednisone"),
        illness: Illness::Respiratory,
    },
];

/// Illnesses that patients bring with them.
pub(super) const COMORBIDITIES: [Coding; 4] = [
    icd("I10", "Essential (primary) hypertension"),
    icd("E11.9", "Type 2 diabetes mellitus without complications"),
    icd("N18.30", "Chronic kidney disease, stage 3 unspecified"),
    icd("I48.91", "Unspecified atrial fibrillation"),
];

/// Given in intensive care.
pub(super) const VASOPRESSOR: Coding = drug("7512", "norepinephrine");
