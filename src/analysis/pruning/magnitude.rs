//! The smallest weights: what others are compared with.

use super::{Pruned, Zeros};

/// Makes the smallest of a layer's weights zero, in rows of `n`; nothing makes up for them, and the loss is the sum of their squares.
pub fn smallest(rows: &[f64], n: usize, zeros: Zeros) -> Pruned {
    let [tall, wide] = zeros.unit();
    let across = n / wide;
    let places = |unit: usize| {
        let (top, left) = (unit / across * tall, unit % across * wide);
        (top..top + tall).flat_map(move |row| (left..left + wide).map(move |i| row * n + i))
    };
    let units = rows.len() / (tall * wide);
    let size = |at: &usize| rows[*at] * rows[*at];
    let gone: Vec<usize> = match zeros {
        Zeros::Pattern { kept, of } => {
            let of_group = |group: usize| {
                let mut places: Vec<usize> = places(group).collect();
                places.sort_by(|a, b| size(a).total_cmp(&size(b)));
                places.truncate(of - kept);
                places
            };
            (0..units).flat_map(of_group).collect()
        }
        Zeros::Share { share, .. } => {
            let of_block = |block: usize| places(block).map(|at| size(&at)).sum::<f64>();
            let mut blocks: Vec<(f64, usize)> = (0..units).map(|b| (of_block(b), b)).collect();
            blocks.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            blocks.truncate((share * units as f64).round() as usize);
            blocks
                .iter()
                .flat_map(|(_, block)| places(*block))
                .collect()
        }
    };
    let mut pruned = Pruned {
        weight: rows.to_vec(),
        kept: vec![true; rows.len()],
        loss: gone.iter().map(size).sum(),
    };
    for at in gone {
        pruned.weight[at] = 0.0;
        pruned.kept[at] = false;
    }
    pruned
}
