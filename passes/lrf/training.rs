//! LRF interleaved with training, as its authors do it.
//!
//! The 1x1 convolutions are put around the layers as identities, and the network is trained for a while (`warmup`; the authors
//! take 20 epochs). Then, from the last layer to the first, filters go and the network is trained (`finetune`; the authors
//! take 1 epoch), and channels go and it is trained again, at a rate that does not fall. What each layer keeps is decided
//! before. The loss is cross-entropy and the divergence from the network as it was read, at temperature 2; the authors leave
//! the second out while nothing is gone yet, where it is nearly 0. The long training afterwards is the pass `finetune`.

#[cfg(feature = "torch")]
pub(super) use with_torch::Training;
#[cfg(not(feature = "torch"))]
pub(super) use without_torch::Training;

#[cfg(not(feature = "torch"))]
mod without_torch {
    use crate::Result;
    use crate::passes::lrf::LrfOptions;
    use crate::passes::training::not_built_in;

    /// What this build cannot do.
    #[derive(Clone)]
    pub(in crate::passes::lrf) enum Training {}

    impl Training {
        /// None.
        pub(in crate::passes::lrf) fn of(options: &LrfOptions) -> Result<Option<Training>> {
            match options.finetune {
                0 => Ok(None),
                epochs => Err(not_built_in(&format!("lrf{{finetune={epochs}}}"))),
            }
        }
    }
}

#[cfg(feature = "torch")]
mod with_torch {
    use crate::Result;
    use crate::data::TrainingSet;
    use crate::exec::torch::{Keep, Schedule, Settings};
    use crate::ir::Graph;
    use crate::passes::equalization::equalize;
    use crate::passes::lrf::factor::Kept;
    use crate::passes::lrf::interleaved::{InPieces, Side};
    use crate::passes::lrf::layer::Layer;
    use crate::passes::lrf::weigh::Weigh;
    use crate::passes::lrf::{Lrf, LrfOptions};
    use crate::passes::training::{Round, of_another_run, train};
    use crate::pipeline::{PassContext, State};

    /// The note of a state that says how many sides of layers have lost what goes.
    const ROUND: &str = "round";

    impl Lrf {
        /// By what layers are weighed that are in pieces. What batch norms promise is nothing that pieces read.
        fn weigh_interleaved(&self, context: &PassContext<'_>) -> Weigh {
            match self.weigh(context) {
                Weigh::Moments if context.samples.is_none() => Weigh::Norms,
                weigh => weigh,
            }
        }
    }

    /// How the network is trained while it loses filters and channels.
    #[derive(Clone)]
    pub(in crate::passes::lrf) struct Training {
        /// Epochs before the first goes.
        warmup: usize,
        /// Epochs after each side of each layer.
        epochs: usize,
        rate: f64,
    }

    impl Training {
        /// What the options ask for, if anything.
        pub(in crate::passes::lrf) fn of(options: &LrfOptions) -> Result<Option<Training>> {
            let training = Training {
                warmup: options.warmup,
                epochs: options.finetune,
                rate: options.lr,
            };
            Ok((options.finetune > 0).then_some(training))
        }

        /// The epochs of a round, and of those before it.
        fn epochs(&self, round: usize) -> (usize, usize) {
            match round {
                0 => (self.warmup, 0),
                round => (self.epochs, self.warmup + (round - 1) * self.epochs),
            }
        }

        fn round<'a>(&self, round: usize, set: &'a TrainingSet, rounds: usize) -> Round<'a> {
            let (epochs, before) = self.epochs(round);
            let all = self.epochs(rounds + 1).1 as f64;
            Round {
                set,
                settings: Settings {
                    epochs,
                    before,
                    keep: Keep::Last,
                    rate: self.rate,
                    schedule: Schedule::Constant,
                    ..Settings::default()
                },
                own: State::default(),
                place: String::new(),
                part: before as f64 / all..(before + epochs) as f64 / all,
            }
        }
    }

    impl Lrf {
        /// Removes what layers do not keep side by side, and trains in between. A loss that is not finite ends training, not
        /// the pass.
        pub(in crate::passes::lrf) fn train(
            &self,
            graph: &mut Graph,
            layers: &[Layer],
            kept: &[Option<Kept>],
            training: &Training,
            context: &mut PassContext<'_>,
        ) -> Result<()> {
            let set = context.training.training_set()?;
            let weigh = self.weigh_interleaved(context);
            equalize(graph);
            let mut parts = Vec::new();
            for (layer, kept) in layers.iter().zip(kept).rev() {
                if let Some(kept) = kept {
                    parts.push(InPieces::insert(graph, *layer, *kept, weigh)?);
                }
            }
            let rounds: Vec<(usize, Side)> = parts
                .iter()
                .enumerate()
                .flat_map(|(i, part)| part.sides().map(move |side| (i, side)))
                .collect();
            let saved = saved_round(graph, &mut parts, &rounds, context)?;
            for round in saved.unwrap_or(0)..=rounds.len() {
                let side = round.checked_sub(1).map(|i| rounds[i]);
                if let Some((i, side)) = side.filter(|_| saved != Some(round)) {
                    parts[i].lose(graph, side, weigh, self.choice, context)?;
                }
                let mut this = training.round(round, &set, rounds.len());
                if this.settings.epochs == 0 || context.stop_reason.is_some() {
                    continue;
                }
                this.place = match side {
                    None => "warm-up".into(),
                    Some((i, side)) => {
                        format!(
                            "side {round} of {}, {side} of {}",
                            rounds.len(),
                            parts[i].name
                        )
                    }
                };
                this.own = State {
                    notes: [(ROUND.to_string(), round.to_string())].into(),
                    tensors: parts.iter().flat_map(|part| part.tensors(graph)).collect(),
                };
                let _changed = train(graph, &this, context)?;
                if context.stop_reason.is_some() && round < rounds.len() {
                    let text =
                        format!("after {}, the rest is removed without training", this.place);
                    context.missed("", text);
                }
            }
            Ok(())
        }
    }

    /// The round that was saved, if any, with the layers as they were when it began.
    fn saved_round(
        graph: &mut Graph,
        parts: &mut [InPieces],
        rounds: &[(usize, Side)],
        context: &mut PassContext<'_>,
    ) -> Result<Option<usize>> {
        let Some(saved) = context.training.saved() else {
            return Ok(None);
        };
        let round = saved.notes.get(ROUND).and_then(|round| round.parse().ok());
        let round: usize = round
            .filter(|round| *round <= rounds.len())
            .ok_or_else(|| of_another_run("it does not say which side of which layer it is of"))?;
        for (i, side) in &rounds[..round] {
            parts[*i].has_lost(*side);
        }
        for part in parts {
            part.restore(graph, |name| saved.tensors.get(name))
                .map_err(|what| of_another_run(&what))?;
        }
        let text = match round {
            0 => "went on in the warm-up".into(),
            round => format!("went on at side {round} of {}", rounds.len()),
        };
        context.analysis("", text);
        Ok(Some(round))
    }
}
