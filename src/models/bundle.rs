//! A model with everything it needs to score.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

use super::files::{self, CARD, MANIFEST, MODEL, PREPROCESS};
use super::panel::Panel;
use super::preprocess::Preprocess;
use super::sequence::tabular;
use super::{Assessment, Card, Explanation, Family, Grounds, Link, Model, ModelError};

/// Rows that are preprocessed at a time.
const BLOCK: usize = 64;
/// Rows from which on a batch is dealt to the cores; as a rule fewer are not worth waking them.
const MANY: usize = 512;
/// Rows of the pieces that it is dealt in.
const PIECE: usize = 128;

/// Preprocessing, model and card; scores are the same bits wherever they are made.
#[derive(Debug)]
pub struct Bundle {
    /// What it is. The registry sets `version`, whoever evaluates sets `metrics`; changing
    /// the rest changes what the bundle means.
    pub card: Card,
    preprocess: Preprocess,
    model: Box<dyn Model>,
}

/// Memory that scoring reuses from call to call.
#[derive(Debug, Default)]
pub struct Scratch {
    selected: Vec<f32>,
    columns: Vec<f32>,
    margins: Vec<f64>,
    /// Whether every batch stays on the calling thread.
    stays: bool,
}

impl Scratch {
    /// Memory of who must not wait for rayon's threads: every batch stays on the calling thread, however many rows it
    /// has. What is dealt out waits until one of them is free, which in a process that trains may take a whole fit.
    pub fn staying() -> Scratch {
        Scratch { stays: true, ..Scratch::default() }
    }
}

impl Bundle {
    /// Puts the parts together, if they fit.
    pub(super) fn assemble(card: Card, preprocess: Preprocess, model: Box<dyn Model>) -> Result<Bundle, ModelError> {
        card.check()?;
        preprocess.check().map_err(|reason| ModelError::corrupt(PREPROCESS, reason))?;
        let fits = if card.question.is_some() { preprocess.is_raw() } else { card.family.takes(&preprocess) };
        if !fits {
            return Err(ModelError::corrupt(PREPROCESS, "it is not of the kind that the family needs"));
        }
        let selected = card.selected.as_ref().map(|selected| selected.names(&card.features));
        let features = selected.as_ref().unwrap_or(&card.features);
        let (used, all) = (preprocess.features(), features.len());
        let reads_all = card.question.is_some() || card.family.reads_grid();
        if used != all && (reads_all || used != tabular(features)) {
            return Err(ModelError::corrupt(PREPROCESS, "it takes another number of features than the card names"));
        }
        if preprocess.columns() != model.columns() {
            return Err(ModelError::corrupt(MODEL, "it takes another number of columns than preprocessing makes"));
        }
        Ok(Bundle { card, preprocess, model })
    }

    /// Alert at `risk >= threshold`.
    pub fn threshold(&self) -> f64 {
        self.card.threshold
    }

    /// Features of a row.
    pub fn columns(&self) -> usize {
        self.card.features.len()
    }

    /// What the model's margin is.
    pub fn link(&self) -> Link {
        self.model.link()
    }

    /// Clears `out` and fills it with the risk of every row of `rows` (row-major raw
    /// features, `NaN` = missing). A row's risk is the same bits in every batch. Many rows are dealt to all cores.
    ///
    /// # Errors
    /// [`ModelError::Columns`] if these are not whole rows.
    pub fn score(&self, rows: &[f32], out: &mut Vec<f64>) -> Result<(), ModelError> {
        self.score_with(rows, &mut Scratch::default(), out)
    }

    /// [`Bundle::score`] with memory of the caller's, for many small batches.
    ///
    /// # Errors
    /// [`ModelError::Columns`] if these are not whole rows.
    pub fn score_with(&self, rows: &[f32], scratch: &mut Scratch, out: &mut Vec<f64>) -> Result<(), ModelError> {
        self.margins_into(rows, scratch, None)?;
        let (calibration, link) = (&self.card.calibration, self.link());
        out.clear();
        out.extend(scratch.margins.iter().map(|&margin| calibration.risk(link, margin)));
        Ok(())
    }

    /// [`Bundle::score_with`], and of each row whether its risk is to be relied on. A bundle
    /// without [`Card::conformal`] never doubts.
    ///
    /// Clears `outputs` too and fills it, row after row, with what is told beside the risk, in the order of
    /// [`Bundle::output_names`]; a row's are the same bits in every batch.
    ///
    /// # Errors
    /// [`ModelError::Columns`] if these are not whole rows.
    pub fn assess(
        &self,
        rows: &[f32],
        scratch: &mut Scratch,
        out: &mut Vec<Assessment>,
        outputs: &mut Vec<f64>,
    ) -> Result<(), ModelError> {
        outputs.clear();
        self.margins_into(rows, scratch, Some(outputs))?;
        let (calibration, link) = (&self.card.calibration, self.link());
        out.clear();
        out.extend(rows.chunks_exact(self.columns()).zip(&scratch.margins).map(|(row, &margin)| {
            let risk = calibration.risk(link, margin);
            match &self.card.conformal {
                Some(conformal) => conformal.assess(row, margin, risk),
                None => Assessment { risk, possible: [true, true], doubt: None },
            }
        }));
        Ok(())
    }

    /// What the doubt about one row (raw features) rests on, where features tell: see [`Bundle::assess`].
    pub fn grounds(&self, row: &[f32]) -> Option<Grounds<'_>> {
        self.card.conformal.as_ref()?.grounds(row, &self.card.features)
    }

    /// Names of what [`Bundle::assess`] tells beside the risk: the classes, the times, or `mean`, quantiles and
    /// what is reached; none where the question is yes or no.
    pub fn output_names(&self) -> &[String] {
        self.model.output_names()
    }

    /// The amounts that the last outputs tell the probability to reach of, ascending; none where
    /// no amount is told.
    pub fn cuts(&self) -> &[f64] {
        self.model.cuts()
    }

    /// Why one row (raw features) has its risk.
    ///
    /// # Errors
    /// [`ModelError::Columns`] if it is not one whole row.
    pub fn explain(&self, row: &[f32]) -> Result<Explanation, ModelError> {
        if row.len() != self.columns() {
            return Err(ModelError::Columns { expected: self.columns(), found: row.len() });
        }
        let mut scratch = Scratch::default();
        self.margins_into(row, &mut scratch, None)?;
        let mut attribution = self.model.attribute(if self.takes_rows() { row } else { &scratch.columns });
        attribution.contributions = self.preprocess.fold(attribution.contributions);
        // A feature has its column and at most one mask, whose errors may point the same way.
        attribution.error = attribution.error.map(|error| 2.0 * error);
        // One row was asked for, so there is one margin.
        let margin = scratch.margins.first().copied().unwrap_or(attribution.base);
        let mut explanation = Explanation::rescale(attribution, margin, &self.card.calibration, self.link());
        if let Some(selected) = &self.card.selected {
            explanation.contributions = selected.spread(&explanation.contributions, self.columns());
        }
        // What the model does not read contributes nothing.
        explanation.contributions.resize(self.columns(), 0.0);
        Ok(explanation)
    }

    /// Names of the features that the model itself takes, in its order: those of the card but what was left out by
    /// `[train.select]`, and but the hourly grid where its family does not read it.
    pub fn model_features(&self) -> Vec<String> {
        let Card { features, selected, .. } = &self.card;
        let mut names = selected.as_ref().map_or_else(|| features.clone(), |selected| selected.names(features));
        names.truncate(self.preprocess.features());
        names
    }

    /// Whether the model takes whole rows as they are.
    fn takes_rows(&self) -> bool {
        self.card.selected.is_none() && self.preprocess.is_raw() && self.preprocess.features() == self.columns()
    }

    /// The margins of raw rows.
    pub(super) fn margins(&self, rows: &[f32]) -> Result<Vec<f64>, ModelError> {
        let mut scratch = Scratch::default();
        self.margins_into(rows, &mut scratch, None)?;
        Ok(scratch.margins)
    }

    /// One raw row's contributions in margin space, one a preprocessed column.
    #[cfg(test)]
    pub(super) fn attribution(&self, row: &[f32]) -> super::Attribution {
        let mut scratch = Scratch::default();
        self.prepare(row, &mut scratch);
        self.model.attribute(&scratch.columns)
    }

    /// Appends what the model takes of a raw row to `scratch.columns`.
    fn prepare(&self, row: &[f32], scratch: &mut Scratch) {
        let row = match &self.card.selected {
            Some(selected) => selected.cut(row, &mut scratch.selected),
            None => row,
        };
        self.preprocess.apply(&row[..self.preprocess.features()], &mut scratch.columns);
    }

    /// The margins of raw rows, into `scratch`; appends what is told beside them to `outputs`, where it is asked for.
    ///
    /// Many rows are dealt to rayon's threads, in pieces of whole rows. As a row's margin does not depend on the rows
    /// beside it, nor does anything on who computes which piece.
    fn margins_into(
        &self,
        rows: &[f32],
        scratch: &mut Scratch,
        mut outputs: Option<&mut Vec<f64>>,
    ) -> Result<(), ModelError> {
        let expected = self.columns();
        if !rows.len().is_multiple_of(expected) {
            return Err(ModelError::Columns { expected, found: rows.len() });
        }
        scratch.margins.clear();
        if scratch.stays || rows.len() / expected < MANY || rayon::current_num_threads() == 1 {
            self.append_margins(rows, scratch, outputs);
            return Ok(());
        }
        let is_asked = outputs.is_some();
        let piece = |rows: &[f32]| {
            let (mut scratch, mut outputs) = (Scratch::default(), Vec::new());
            self.append_margins(rows, &mut scratch, is_asked.then_some(&mut outputs));
            (scratch.margins, outputs)
        };
        let pieces: Vec<(Vec<f64>, Vec<f64>)> = rows.par_chunks(expected * PIECE).map(piece).collect();
        for (margins, told) in pieces {
            scratch.margins.extend(margins);
            if let Some(outputs) = outputs.as_deref_mut() {
                outputs.extend(told);
            }
        }
        Ok(())
    }

    /// Appends the margins of whole raw rows to those in `scratch`, and what is told beside them to `outputs`.
    fn append_margins(&self, rows: &[f32], scratch: &mut Scratch, mut outputs: Option<&mut Vec<f64>>) {
        let mut run = |columns: &[f32], margins: &mut Vec<f64>| match outputs.as_deref_mut() {
            Some(outputs) => self.model.margins_and_outputs(columns, margins, outputs),
            None => self.model.margins(columns, margins),
        };
        if self.takes_rows() {
            return run(rows, &mut scratch.margins);
        }
        let expected = self.columns();
        for block in rows.chunks(expected * BLOCK) {
            scratch.columns.clear();
            for row in block.chunks_exact(expected) {
                self.prepare(row, scratch);
            }
            run(&scratch.columns, &mut scratch.margins);
        }
    }

    /// The model as a file that XGBoost loads; it takes [`Bundle::model_features`], and tells what calibration takes:
    /// probabilities, or hazard ratios.
    ///
    /// # Errors
    /// [`ModelError::Export`] for a family that XGBoost does not have.
    pub fn to_xgboost(&self) -> Result<Vec<u8>, ModelError> {
        match self.card.family {
            Family::Boosting | Family::Hazard if self.card.question.is_none() => self.model.encode(),
            family => Err(ModelError::Export { family }),
        }
    }

    /// The files of the bundle by name, and its sha256; for a registry that is no folder.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if the card was edited into something that cannot be read back.
    pub fn to_files(&self) -> Result<(BTreeMap<String, Vec<u8>>, String), ModelError> {
        let parts = self.parts()?;
        let (manifest, hash) = files::seal(&parts)?;
        let mut out: BTreeMap<String, Vec<u8>> =
            parts.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
        out.insert(MANIFEST.to_owned(), manifest);
        Ok((out, hash))
    }

    /// The bundle of [`Bundle::to_files`]; everything is verified.
    ///
    /// # Errors
    /// As [`Bundle::load`].
    pub fn from_files(files: &BTreeMap<String, Vec<u8>>) -> Result<Bundle, ModelError> {
        let fetch = |file: &'static str| files.get(file).cloned().ok_or(ModelError::Missing { file });
        Bundle::from_parts(&files::open(&fetch(MANIFEST)?, fetch)?)
    }

    /// Writes the bundle into a folder (made if need be); returns its sha256.
    ///
    /// # Errors
    /// [`ModelError::Io`], or as [`Bundle::to_files`].
    pub fn save(&self, folder: &Path) -> Result<String, ModelError> {
        let parts = self.parts()?;
        let (manifest, hash) = files::seal(&parts)?;
        files::write(folder, &parts, &manifest)?;
        Ok(hash)
    }

    /// Reads the bundle of a folder and verifies all of it.
    ///
    /// # Errors
    /// A missing file, a wrong hash, an unknown format, a file too large, or a content that
    /// makes no usable model; each says which file.
    pub fn load(folder: &Path) -> Result<Bundle, ModelError> {
        let manifest = files::read(folder, MANIFEST)?;
        Bundle::from_parts(&files::open(&manifest, |name| files::read(folder, name))?)
    }

    fn parts(&self) -> Result<files::Parts, ModelError> {
        self.card.check()?;
        let card = serde_json::to_vec_pretty(&self.card).map_err(|e| ModelError::corrupt(CARD, e))?;
        let preprocess = serde_json::to_vec(&self.preprocess).map_err(|e| ModelError::corrupt(PREPROCESS, e))?;
        Ok(BTreeMap::from([(CARD, card), (PREPROCESS, preprocess), (MODEL, self.model.encode()?)]))
    }

    fn from_parts(parts: &files::Parts) -> Result<Bundle, ModelError> {
        let part = |file: &'static str| parts.get(file).ok_or(ModelError::Missing { file });
        let card: Card = serde_json::from_slice(part(CARD)?).map_err(|e| ModelError::corrupt(CARD, e))?;
        let preprocess: Preprocess =
            serde_json::from_slice(part(PREPROCESS)?).map_err(|e| ModelError::corrupt(PREPROCESS, e))?;
        // Before the model, which may index by what these say.
        card.check()?;
        let (model, features) = (part(MODEL)?, preprocess.features());
        let model: Box<dyn Model> = match &card.question {
            Some(question) => Box::new(Panel::decode(model, features, card.family, question.clone())?),
            None => card.family.decode(model, features)?,
        };
        Bundle::assemble(card, preprocess, model)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::thread::ThreadId;

    use super::super::{Attribution, Calibration, FitSpec, Matrix};
    use super::*;

    /// A model whose margin is the row's first value and whose output the second; it notes how many rows it was
    /// given at a time, and on which thread.
    #[derive(Clone, Debug, Default)]
    struct Noting {
        names: Vec<String>,
        calls: Arc<Mutex<Vec<(usize, ThreadId)>>>,
    }

    impl Model for Noting {
        fn columns(&self) -> usize {
            2
        }

        fn link(&self) -> Link {
            Link::Probability
        }

        fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
            self.margins_and_outputs(rows, out, &mut Vec::new());
        }

        fn output_names(&self) -> &[String] {
            &self.names
        }

        fn margins_and_outputs(&self, rows: &[f32], margins: &mut Vec<f64>, outputs: &mut Vec<f64>) {
            self.calls.lock().unwrap().push((rows.len() / 2, std::thread::current().id()));
            for row in rows.chunks_exact(2) {
                margins.push(f64::from(row[0]));
                outputs.push(f64::from(row[1]));
            }
        }

        fn attribute(&self, row: &[f32]) -> Attribution {
            Attribution::exact(f64::from(row[0]), vec![0.0; 2])
        }

        fn encode(&self) -> Result<Vec<u8>, ModelError> {
            Ok(Vec::new())
        }
    }

    /// A bundle of such a model.
    fn noting() -> (Bundle, Noting) {
        let x = Matrix::from_values(2, (0..80).map(|i| (i % 7) as f32).collect()).unwrap();
        let labels: Vec<bool> = (0..40).map(|row| row % 3 == 0).collect();
        let mut spec = FitSpec::new(Family::Bedside, "test", vec!["a".to_owned(), "b".to_owned()], "spec");
        spec.params.bedside.feature = "a".to_owned();
        let mut bundle = Bundle::fit(spec, &x, &labels, &x, &labels).unwrap();
        let model = Noting { names: vec!["b".to_owned()], ..Noting::default() };
        bundle.card.calibration = Calibration::Identity;
        bundle.model = Box::new(model.clone());
        (bundle, model)
    }

    /// Risks, outputs and calls of a batch of so many rows, within a pool of so many threads.
    fn assessed(threads: usize, rows: usize, scratch: &mut Scratch) -> (Vec<f64>, Vec<f64>, Vec<(usize, ThreadId)>) {
        let (bundle, model) = noting();
        let values: Vec<f32> = (0..rows).flat_map(|row| [row as f32 / 1e4, -(row as f32)]).collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (mut out, mut outputs) = (Vec::new(), vec![9.0]);
        pool.install(|| bundle.assess(&values, scratch, &mut out, &mut outputs)).unwrap();
        let calls = model.calls.lock().unwrap().clone();
        (out.iter().map(|one| one.risk).collect(), outputs, calls)
    }

    #[test]
    fn many_rows_are_dealt_out_in_whole_rows_and_come_back_in_their_order() {
        for (threads, rows, stays, calls) in [
            (4, 511, false, vec![511]),
            (4, 512, false, vec![128; 4]),
            (4, 3_000, false, [vec![56], vec![128; 23]].concat()),
            (1, 3_000, false, vec![3_000]),
            (4, 3_000, true, vec![3_000]),
        ] {
            let mut scratch = if stays { Scratch::staying() } else { Scratch::default() };
            let (risks, outputs, called) = assessed(threads, rows, &mut scratch);
            let mut counts: Vec<usize> = called.into_iter().map(|(count, _)| count).collect();
            counts.sort_unstable();
            assert_eq!(counts, calls, "{threads} threads, {rows} rows");
            assert_eq!(risks, (0..rows).map(|row| f64::from(row as f32 / 1e4)).collect::<Vec<_>>());
            assert_eq!(outputs, (0..rows).map(|row| -(row as f64)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn who_must_not_wait_stays_on_its_thread() {
        let (bundle, model) = noting();
        let mut out = Vec::new();
        bundle.score_with(&[0.5; 2_000], &mut Scratch::staying(), &mut out).unwrap();
        assert_eq!(*model.calls.lock().unwrap(), [(1_000, std::thread::current().id())]);
        assert_eq!(out, [0.5; 1_000]);
    }
}
