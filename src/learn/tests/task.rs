use crate::events::HOUR;
use crate::learn::Task;
use crate::models::{Abstain, Aim, Family, Select};
use crate::settings::TextFile;

const TASK: &str = r#"
name = "icu_mortality"
title = "Death in the ICU"
horizon = "24h"

[trigger]
at = ["48h"]
encounter = "ICU"

[label]
aces = "icu_mortality.yaml"

[train]
family = "logistic"
schedule = "0 0 3 * * *"
min_subjects = 100
min_positives = 20
seed = 7

[gate]
min_auroc = 0.75
margin = 0.02

[alert]
threshold = 0.5
"#;

const ACES: &str = r#"
predicates:
  death: {code: MEDS_DEATH}
  prediction: {code: AUSCULT//PREDICTION}
trigger: prediction
windows:
  input: {start: NULL, end: trigger, start_inclusive: true, end_inclusive: true, index_timestamp: end}
  target: {start: trigger, end: start + 24h, start_inclusive: false, end_inclusive: true, label: death}
"#;

fn parse(toml: &str, aces: &str) -> Result<Task, Vec<(String, String)>> {
    let file = TextFile { name: "tasks/icu_mortality.toml".to_owned(), text: toml.to_owned() };
    let aces = TextFile { name: "tasks/icu_mortality.yaml".to_owned(), text: aces.to_owned() };
    let task = Task::parse(&file, &[aces]).map(|mut tasks| tasks.remove(0));
    task.map_err(|problems| problems.into_iter().map(|p| (p.file, p.key)).collect())
}

#[test]
fn a_task_is_read_whole() {
    let task = parse(TASK, ACES).unwrap();
    assert_eq!(
        (task.name.as_str(), task.title.as_str(), task.horizon),
        ("icu_mortality", "Death in the ICU", 24 * HOUR)
    );
    assert_eq!(task.aces_file, "tasks/icu_mortality.yaml");
    assert_eq!((task.train.family, task.train.seed), (Family::Logistic, 7));
    assert_eq!((task.train.min_subjects, task.train.min_positives), (100, 20));
    assert!(task.train.schedule.is_some());
    assert_eq!((task.gate.min_auroc, task.gate.margin), (0.75, 0.02));
}

#[test]
fn what_is_left_out_has_a_usual_value() {
    let short = "name = \"a\"\nhorizon = \"1d\"\ntrigger = {every = \"1h\", encounter = \"ICU\"}\nlabel.aces = \"icu_mortality.yaml\"\n";
    let task = parse(short, ACES).unwrap();
    assert_eq!((task.title.as_str(), task.train.family, task.train.min_subjects), ("a", Family::Boosting, 100));
    assert!(task.train.schedule.is_none());
}

#[test]
fn every_problem_is_found_at_once() {
    let wrong = r#"
name = "Über"
horizon = "soon"
colour = "red"

[trigger]
at = ["48h"]
encounter = "ICU"
sometimes = true

[label]
aces = "missing.yaml"
file = "x"

[train]
family = "oracle"
schedule = "daily"
min_subjects = 0
min_positives = "many"
seed = -1
params = {boosting = {deepness = 3}}

[gate]
min_auroc = 2
maximum = 1

[alert]
volume = 11
noise = 12
"#;
    let keys: Vec<String> = parse(wrong, ACES).unwrap_err().into_iter().map(|(_, key)| key).collect();
    assert_eq!(
        keys,
        [
            "colour",
            "name",
            "horizon",
            "trigger.sometimes",
            "label.file",
            "label.aces",
            "train.family",
            "train.schedule",
            "train.params",
            "train.min_subjects",
            "train.min_positives",
            "train.seed",
            "gate.maximum",
            "gate.min_auroc",
            "alert.noise",
            "alert.volume",
        ]
    );
    let missing: Vec<String> = parse("", ACES).unwrap_err().into_iter().map(|(_, key)| key).collect();
    assert_eq!(missing, ["name", "horizon", "trigger", "label.aces"]);
    assert_eq!(parse("name = ", ACES).unwrap_err()[0].1, "line 1");
}

#[test]
fn problems_of_the_aces_file_are_those_of_the_task() {
    let unlabelled = ACES.replace(", label: death", "").replace(", index_timestamp: end", "");
    let aces = "tasks/icu_mortality.yaml".to_owned();
    let found = parse(TASK, &unlabelled).unwrap_err();
    assert_eq!(found, [(aces.clone(), "label".to_owned()), (aces.clone(), "index_timestamp".to_owned())]);
    assert_eq!(
        parse(TASK, &ACES.replace("trigger: prediction", "trigger: nothing")).unwrap_err(),
        [(aces, "trigger".to_owned())]
    );
}

#[test]
fn a_task_says_when_its_models_abstain_and_what_their_threshold_is_for() {
    let with = |rest: &str| parse(&TASK.replace("threshold = 0.5", rest), ACES);
    let none = with("").unwrap();
    assert_eq!((none.abstain, none.policy.aim), (None, Aim::MinSePpv));
    let task = with("aim = {ppv = 0.3}\n[abstain]\nerror_rate = 0.05\nnovel = false").unwrap();
    assert_eq!(task.abstain, Some(Abstain { error_rate: 0.05, too_little_data: true, novel: false }));
    assert_eq!(task.policy.aim, Aim::Ppv(0.3));
    let keys = |rest: &str| with(rest).unwrap_err().into_iter().map(|(_, key)| key).collect::<Vec<_>>();
    assert_eq!(keys("[abstain]"), ["abstain"]);
    assert_eq!(keys("[abstain]\nerror_rate = 0.5"), ["abstain.error_rate"]);
    assert_eq!(keys("[abstain]\nerror_rate = 0.1\noften = true"), ["abstain.often"]);
    assert_eq!(keys("aim = {ppv = 3}"), ["alert.aim"]);
    assert_eq!(keys("aim = 3"), ["alert"]);
}

#[test]
fn out_of_range_hyperparameters_are_a_problem() {
    let wrong = TASK.replace("seed = 7", "seed = 7\nparams = {logistic = {alpha = -1.0}}");
    assert_eq!(parse(&wrong, ACES).unwrap_err()[0].1, "train.params");
}

#[test]
fn a_search_has_an_end_and_is_of_families_that_can_be_fitted() {
    let with = |search: &str| parse(&TASK.replace("seed = 7", &format!("seed = 7\nsearch = {{{search}}}")), ACES);
    let search = with("trials = 40, minutes = 2.5, families = [\"mlp\", \"stack\"]").unwrap().train.search.unwrap();
    assert_eq!((search.trials, search.minutes, search.folds), (Some(40), Some(2.5), 3));
    assert_eq!(search.families, [Family::Mlp, Family::Stack]);
    assert_eq!(with("minutes = 1").unwrap().train.search.unwrap().minutes, Some(1.0));
    for wrong in ["", "trials = 0", "trials = 201", "minutes = 0", "minutes = 1e9", "minutes = 1, folds = 1"] {
        assert_eq!(with(wrong).unwrap_err()[0].1, "train.search", "{wrong}");
    }
    assert_eq!(with("trials = 2, families = [\"oracle\"]").unwrap_err()[0].1, "train.search");
    assert_eq!(with("trials = 2, tries = 3").unwrap_err()[0].1, "train.search");
    let params = "trials = 2, families = [\"mlp\"]}\nparams = {mlp = {rate = 2.0}";
    assert_eq!(with(params).unwrap_err()[0].1, "train.params");
}

#[test]
fn features_are_left_out_where_it_is_asked_for() {
    let with = |select: &str| parse(&TASK.replace("seed = 7", &format!("seed = 7\nselect = {select}")), ACES);
    assert_eq!(parse(TASK, ACES).unwrap().train.select, None);
    let select = |select: &str| with(select).unwrap().train.select.unwrap();
    assert_eq!(select("{rare = 10, most = 100}"), Select { rare: Some(10), most: Some(100) });
    assert_eq!(select("{rare = 1}"), Select { rare: Some(1), most: None });
    assert_eq!(select("{most = 7}"), Select { rare: None, most: Some(7) });
    let keys = |select: &str| with(select).unwrap_err().into_iter().map(|(_, key)| key).collect::<Vec<_>>();
    assert_eq!(keys("{}"), ["train.select"]);
    assert_eq!(keys("100"), ["train.select"]);
    assert_eq!(keys("{rare = 0, most = \"all\"}"), ["train.select.rare", "train.select.most"]);
    assert_eq!(keys("{rare = -1, most = 1.5}"), ["train.select.rare", "train.select.most"]);
    assert_eq!(keys("{most = 5, least = 3}"), ["train.select.least"]);
}

#[test]
fn a_fit_is_cross_fitted_where_it_is_asked_for_and_answers_yes_or_no() {
    let with = |line: &str| parse(&TASK.replace("seed = 7", &format!("seed = 7\n{line}")), ACES);
    assert_eq!(
        (parse(TASK, ACES).unwrap().train.crossfit, with("crossfit = 5").unwrap().train.crossfit),
        (None, Some(5))
    );
    for wrong in ["crossfit = 1", "crossfit = true"] {
        assert_eq!(with(wrong).unwrap_err()[0].1, "train.crossfit", "{wrong}");
    }
    let soon = TASK.replace("[label]", "[label]\nkind = \"survival\"\ntimes = [\"12h\", \"24h\"]");
    assert!(parse(&soon, ACES).is_ok());
    let error = parse(&soon.replace("seed = 7", "seed = 7\ncrossfit = 5"), ACES).unwrap_err();
    assert_eq!(error[0].1, "train.crossfit");
}

#[test]
fn a_preset_brings_family_and_hyperparameters() {
    let with = |line: &str| parse(&TASK.replace("family = \"logistic\"", line), ACES);
    let train = with("preset = \"mlp-64-32\"").unwrap().train;
    assert_eq!((train.family, train.params.mlp.hidden.as_slice()), (Family::Mlp, &[64, 32][..]));
    assert_eq!((train.params.mlp.rate, train.params.mlp.batch, train.params.mlp.decay), (1e-3, 32, 0.0));
    for wrong in ["preset = \"mlp\"", "preset = 1", "preset = \"mlp-64-32\"\nfamily = \"mlp\""] {
        assert_eq!(with(wrong).unwrap_err()[0].1, "train.preset", "{wrong}");
    }
}
