//! A folder of `.npz` files, each with one sample: an array for each input, with or without a batch of one.

use std::path::PathBuf;

use super::arrays::{Arrays, Column, choose};
use super::npz::Npz;
use super::{DataSpec, Elements, Opened, Source, Wanted, Wrong};
use crate::ir::Tensor;
use crate::{Error, Result};

/// Files that are known to fit, as they were when they were opened.
#[derive(Debug)]
struct Folder {
    /// By which messages name their files.
    spec: DataSpec,
    files: Vec<PathBuf>,
    /// The array of each input.
    columns: Vec<(String, Column)>,
}

/// Opens a folder: each file is looked at, so that what does not fit is said now.
pub(super) fn open(spec: &DataSpec, wanted: &Wanted) -> Result<Opened> {
    let files = files(spec)?;
    let Some(first) = files.first() else {
        return Err(spec.wrong(Wrong::new(
            "there is no .npz file in it",
            "each file is one sample: numpy.savez(\"0001.npz\", **arrays)",
        )));
    };
    let of = |path: &PathBuf| spec.in_file(path.clone());
    let own = of(first);
    let names = Npz::open(&own, super::map(first)?)?.names();
    let chosen = choose(&own, wanted, &names).map_err(|w| own.wrong(w))?;
    let mut whole: Vec<bool> = Vec::new();
    let mut columns: Vec<(String, Column)> = Vec::new();
    for path in &files {
        let own = of(path);
        let file = Npz::open(&own, super::map(path)?)?;
        let names = file.names();
        for (i, (input, name)) in chosen.arrays.iter().enumerate() {
            if !names.contains(name) {
                let what = format!("it has no array `{name}`, as other files in the folder have");
                return Err(own.wrong(Wrong::new(what, "give each file the same arrays")));
            }
            let array = file.read(name)?;
            let column = Column::new(&own, input, name, array.dtype(), array.shape());
            let column = column.map_err(|w| own.wrong(w))?;
            let is_whole = input.is_whole(array.shape().len());
            match whole.get(i) {
                None => {
                    whole.push(is_whole);
                    columns.push((name.clone(), column));
                }
                Some(first) if *first != is_whole => {
                    let what = format!("the array `{name}` has another rank than in other files");
                    return Err(own.wrong(Wrong::new(
                        what,
                        "give it the batch axis in all files, or in none",
                    )));
                }
                Some(_) if !columns[i].1.is_like(&column) => {
                    let what = format!("the array `{name}` has another type than in other files");
                    return Err(own.wrong(Wrong::new(what, "give it one type in all files")));
                }
                Some(_) => {}
            }
        }
    }
    Ok(Opened {
        inputs: chosen.inputs(&whole),
        filled: chosen.filled,
        sample: None,
        labels: None,
        classes: 0,
        pixels: None,
        split: None,
        source: Box::new(Folder {
            spec: spec.clone(),
            files,
            columns,
        }),
    })
}

/// The `.npz` files in the folder, in order of name.
fn files(spec: &DataSpec) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::Io {
        doing: "read",
        path: spec.path.clone(),
        source,
    };
    let entries = std::fs::read_dir(&spec.path).map_err(failed)?;
    let paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    let is_archive = |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == "npz");
    let mut files: Vec<PathBuf> = paths.into_iter().filter(is_archive).collect();
    files.sort_unstable();
    Ok(files)
}

impl Source for Folder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn read(&self, position: usize) -> Result<Elements, String> {
        let said = |error: Error| error.to_string();
        let path = &self.files[position];
        let own = self.spec.in_file(path.clone());
        let file = Npz::open(&own, super::map(path).map_err(said)?).map_err(said)?;
        let sample = |(name, column): &(String, Column)| -> Result<Tensor, String> {
            column.sample(file.read(name).map_err(said)?)
        };
        let samples = self.columns.iter().map(sample);
        samples.collect::<Result<_, _>>().map(Elements::Arrays)
    }
}
