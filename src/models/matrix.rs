//! The feature matrix.

use rayon::prelude::*;

use super::ModelError;

/// Rows of features, row-major, `NaN` = missing.
#[derive(Clone, PartialEq, Debug)]
pub struct Matrix {
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// A matrix of `columns` columns and no rows.
    pub fn new(columns: usize) -> Matrix {
        Matrix { columns, values: Vec::new() }
    }

    /// A matrix of `columns` columns with room for `rows` rows.
    pub fn with_capacity(columns: usize, rows: usize) -> Matrix {
        Matrix { columns, values: Vec::with_capacity(columns.saturating_mul(rows)) }
    }

    /// A matrix over row-major values.
    ///
    /// # Errors
    /// [`ModelError::Columns`] if they do not make whole rows.
    pub fn from_values(columns: usize, values: Vec<f32>) -> Result<Matrix, ModelError> {
        if columns == 0 && !values.is_empty() || columns > 0 && !values.len().is_multiple_of(columns) {
            return Err(ModelError::Columns { expected: columns, found: values.len() });
        }
        Ok(Matrix { columns, values })
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of rows; a matrix without columns has none.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.columns).unwrap_or(0)
    }

    /// Row `i`; like a slice, it panics for an `i` that is not there.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.columns..(i + 1) * self.columns]
    }

    /// All values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, row-major, out of the matrix.
    pub(super) fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// Appends a row.
    ///
    /// # Errors
    /// [`ModelError::Columns`] if it has another width.
    pub fn push_row(&mut self, row: &[f32]) -> Result<(), ModelError> {
        if row.len() != self.columns || row.is_empty() {
            return Err(ModelError::Columns { expected: self.columns, found: row.len() });
        }
        self.values.extend_from_slice(row);
        Ok(())
    }

    /// A column, from the first row; like a slice, it panics for one that is not there.
    pub(super) fn column(&self, column: usize) -> impl Iterator<Item = f32> + '_ {
        self.values.chunks_exact(self.columns.max(1)).map(move |row| row[column])
    }

    /// What is known of a column, from the first row.
    fn present(&self, column: usize) -> Vec<f32> {
        self.column(column).filter(|value| !value.is_nan()).collect()
    }

    /// What is known of a column, ascending.
    pub(super) fn known(&self, column: usize) -> Vec<f32> {
        let mut known = self.present(column);
        known.sort_unstable_by(f32::total_cmp);
        known
    }

    /// The median of each column; `None` where nothing is known.
    pub(super) fn medians(&self) -> Vec<Option<f32>> {
        let median = |column: usize| {
            let mut known = self.present(column);
            let middle = known.len().checked_sub(1)? / 2;
            Some(*known.select_nth_unstable_by(middle, f32::total_cmp).1)
        };
        (0..self.columns).into_par_iter().map(median).collect()
    }

    /// The first `columns` columns.
    pub(super) fn leading(&self, columns: usize) -> Matrix {
        let columns = columns.min(self.columns);
        let values = (0..self.rows()).flat_map(|row| self.row(row)[..columns].iter().copied()).collect();
        Matrix { columns, values }
    }

    /// The columns at `picked`, in that order; like a slice, it panics for one that is not there.
    pub(super) fn columns_at(&self, picked: &[usize]) -> Matrix {
        let mut out = Matrix::with_capacity(picked.len(), self.rows());
        for row in 0..self.rows() {
            out.values.extend(picked.iter().map(|&column| self.row(row)[column]));
        }
        out
    }

    /// The rows at `picked`, in that order; like a slice, it panics for one that is not there.
    pub fn pick(&self, picked: &[usize]) -> Matrix {
        let mut out = Matrix::with_capacity(self.columns, picked.len());
        for &row in picked {
            out.values.extend_from_slice(self.row(row));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_rows_are_taken() {
        let mut matrix = Matrix::new(2);
        matrix.push_row(&[1.0, f32::NAN]).unwrap();
        matrix.push_row(&[3.0, 4.0]).unwrap();
        assert!(matches!(matrix.push_row(&[1.0]), Err(ModelError::Columns { expected: 2, found: 1 })));
        assert_eq!((matrix.rows(), matrix.row(1)), (2, &[3.0, 4.0][..]));
        assert_eq!(matrix.pick(&[1, 1]).values(), &[3.0, 4.0, 3.0, 4.0]);
        assert_eq!(
            (matrix.columns_at(&[0, 0]).values()[1..].to_vec(), matrix.columns_at(&[1]).rows()),
            (vec![1.0, 3.0, 3.0], 2)
        );
        assert_eq!((matrix.leading(1).values()[1], matrix.leading(1).rows(), matrix.leading(9).columns()), (3.0, 2, 2));
        assert_eq!(matrix.column(1).filter(|value| !value.is_nan()).collect::<Vec<f32>>(), [4.0]);
        assert_eq!(matrix.medians(), [Some(1.0), Some(4.0)]);
        assert_eq!(Matrix::from_values(1, vec![f32::NAN, 7.0, 2.0, 9.0]).unwrap().medians(), [Some(7.0)]);
        assert_eq!(Matrix::from_values(1, vec![f32::NAN]).unwrap().medians(), [None]);
        assert!(Matrix::from_values(3, vec![0.0; 4]).is_err());
        assert!(Matrix::from_values(0, vec![0.0]).is_err());
        assert_eq!(Matrix::new(0).rows(), 0);
    }
}
