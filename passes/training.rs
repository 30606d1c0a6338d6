//! What passes that train have in common: they go on where they were broken off, say how it goes, and keep the best epoch.

use crate::Error;
use crate::pipeline::Values;

/// The help of the option `lr`. What stands there for auto is the first rate of networks whose layers have batch norms; where these
/// were folded, or layers are factors, a tenth of it is about what training bears: ResNet-20 stops at half of it in the first
/// steps, and what `lrf` leaves of it loses more in the first epoch than 20 bring back.
pub(crate) const RATE: &str = "the first learning rate; auto for 0.01, and 0.001 where more than eight layers have no batch norm of their own";

/// The values of the option `lr`.
pub(crate) const RATES: Values = Values::NumberOrAuto { min: 0.0, max: 1e3 };

/// How many layers without a batch norm of their own are no deep network yet.
#[cfg(feature = "torch")]
const SHALLOW: usize = 8;

/// That the pass, perhaps with its options, trains and this build cannot.
#[cfg(not(feature = "torch"))]
pub(crate) fn not_built_in(pass: &str) -> Error {
    Error::Usage {
        what: format!("`{pass}` trains the network, and this optc was built without torch"),
        help: "build one with it: cargo install --features torch --path . in a checkout".into(),
    }
}

#[cfg(feature = "torch")]
pub(crate) use with_torch::{Round, of_another_run, rate, train};

#[cfg(feature = "torch")]
mod with_torch {
    use std::ops::Range;

    use super::{Error, SHALLOW};
    use crate::Result;
    use crate::data::TrainingSet;
    use crate::exec::torch::{Epoch, Keep, Settings, Trainer};
    use crate::ir::{Graph, Op};
    use crate::pipeline::{Changed, PassContext, State};

    /// A training, of several perhaps that a pass does one after another.
    pub(crate) struct Round<'a> {
        /// What to train on.
        pub set: &'a TrainingSet,
        /// How; the seed is the context's.
        pub settings: Settings,
        /// What the pass itself needs to come back to this round, saved with it after each epoch.
        pub own: State,
        /// Where the pass is then, such as `step 3 of 10`; empty where this is all that it does.
        pub place: String,
        /// From where to where its work is done by this round, 0 to 1.
        pub part: Range<f64>,
    }

    impl Round<'_> {
        /// `epoch 3`, or `step 3 of 10, epoch 3`.
        fn at(&self, what: &str) -> String {
            match self.place.as_str() {
                "" => what.to_string(),
                place => format!("{place}, {what}"),
            }
        }
    }

    /// The learning rate, where none is given one that the network bears: see [`RATE`](super::RATE).
    pub(crate) fn rate(given: Option<f64>, graph: &Graph) -> f64 {
        let ops = || graph.nodes().filter_map(|node| graph.op(node));
        let is_layer = |op: &&Op| {
            matches!(
                op,
                Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Linear {}
            )
        };
        let is_norm = |op: &&Op| matches!(op, Op::BatchNorm { .. });
        let (layers, norms) = (
            ops().filter(is_layer).count(),
            ops().filter(is_norm).count(),
        );
        given.unwrap_or(if layers.saturating_sub(norms) <= SHALLOW {
            0.01
        } else {
            0.001
        })
    }

    /// Trains `graph`, with the network as it was read for a teacher.
    ///
    /// Training goes on from what was saved before if that has the notes that the round is to be saved with: a pass of several
    /// rounds notes the round.
    ///
    /// # Errors
    /// Those of [`Trainer`] and of the checkpoint; [`Interrupted`](Error::Interrupted) when the run was asked to end.
    pub(crate) fn train(
        graph: &mut Graph,
        round: &Round<'_>,
        context: &mut PassContext<'_>,
    ) -> Result<Changed> {
        let settings = Settings {
            seed: context.seed,
            ..round.settings.clone()
        };
        let teacher = context.original().unwrap_or(graph).clone();
        let keep = settings.keep;
        let mut trainer = Trainer::new(
            graph,
            &teacher,
            round.set,
            settings,
            context.training.device,
        )?;
        let own = &round.own;
        let is_ours =
            |saved: &&State| { own.notes.iter() }.all(|(k, v)| saved.notes.get(k) == Some(v));
        if let Some(saved) = context.training.saved().filter(is_ours) {
            trainer.restore(saved)?;
            let done = trainer.epochs().len().saturating_sub(1);
            context.analysis("", format!("went on after epoch {done}"));
        }
        let _watch = context.training.cancellation.watch();
        while !trainer.is_done() {
            trainer.epoch(&mut |moment| {
                let Range { start, end } = round.part;
                let fraction = start + (end - start) * moment.fraction;
                let told = context.progress(&round.at(&moment.to_string()), fraction);
                told.map_err(|_| {
                    let place = round.at(&format!("epoch {}", moment.epoch));
                    context.training.interrupted(&format!("in {place}"))
                })
            })?;
            if !context.training.saves() {
                continue;
            }
            let mut state = trainer.state()?;
            state.notes.extend(own.notes.clone());
            state.tensors.extend(own.tensors.clone());
            context.training.save(state)?;
        }
        for epoch in trainer.epochs() {
            context.analysis("", epoch.to_string());
        }
        if let Some(why) = trainer.stopped() {
            context.missed("", format!("training stopped: {why}"));
            context.stop_reason = Some(why.to_string());
        }
        let best = trainer.best().map_or(0, |best: &Epoch| best.number);
        if best == 0 {
            context.missed("", "no epoch was better than the network as it came");
            return Ok(Changed::No);
        }
        trainer.finish(graph)?;
        if keep == Keep::Best {
            context.applied("", format!("trained; epoch {best} was the best"));
        }
        Ok(Changed::Yes)
    }

    /// That what a pass saved is not what it would have saved here.
    pub(crate) fn of_another_run(what: &str) -> Error {
        Error::Usage {
            what: format!("the checkpoint is of another run: {what}"),
            help: "remove it to begin anew".into(),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::rate;
        use crate::ir::Graph;

        /// So many linear layers, and a batch norm.
        fn network(layers: usize, norm: bool) -> Result<Graph, crate::Error> {
            let mut text = "graph net(%x0: f32[N,2]) {\n  @w = parameter 1 : f32[2,2]\n\
                @v = parameter 1 : f32[2]\n"
                .to_string();
            for i in 0..layers {
                text += &format!("  %x{} = linear(%x{i}, @w)\n", i + 1);
            }
            if norm {
                text += &format!("  %y = batch_norm(%x{layers}, @v, @v, @v, @v)\n  return %y\n}}");
            } else {
                text += &format!("  return %x{layers}\n}}");
            }
            text.parse()
        }

        #[test]
        fn a_deep_network_without_batch_norms_gets_a_lower_rate() -> Result<(), crate::Error> {
            assert_eq!(rate(None, &network(9, false)?), 0.001);
            assert_eq!(rate(None, &network(9, true)?), 0.01);
            assert_eq!(rate(None, &network(8, false)?), 0.01);
            assert_eq!(rate(Some(0.5), &network(9, false)?), 0.5);
            Ok(())
        }
    }
}
