//! The pass: steps of the flow, and training between them.

use std::collections::BTreeMap;

use super::flow::{Flow, Moved, Scope, count};
use super::layers::Layer;
use super::{DROP, DropOptions, Ranked};
use crate::data::TrainingSet;
use crate::exec::torch::{Keep, Settings};
use crate::ir::Graph;
use crate::passes::training::{Round, of_another_run, rate, train};
use crate::pipeline::{Changed, Options, Pass, PassContext, PassInfo, State};
use crate::{Error, Result};

/// The note of a state that says which round it is of.
const ROUND: &str = "round";

/// The pass, with its options.
struct Drop {
    flow: Flow,
    ramp: bool,
    steps: usize,
    /// After each step, and after the trim.
    epochs: [usize; 2],
    /// `None` for one that the network bears.
    rate: Option<f64>,
    /// The teacher's temperature, if there is to be one.
    distill: Option<f64>,
    decay: f64,
}

pub(super) fn build(options: &Options) -> Result<Box<dyn Pass>> {
    let options = DropOptions::of(options)?;
    let scope = match options.scope {
        Ranked::Global => Scope::Global,
        Ranked::Layer => Scope::Layer,
    };
    Ok(Box::new(Drop {
        flow: Flow::new(options.sparsity, options.p_out, options.p_in, scope)?,
        ramp: options.ramp,
        steps: options.steps,
        epochs: [options.epochs, options.last],
        rate: options.lr,
        distill: Some(options.distill).filter(|t| *t > 0.0),
        decay: options.decay,
    }))
}

impl Pass for Drop {
    fn info(&self) -> &'static PassInfo {
        &DROP
    }

    fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
        let (mut layers, others) = Layer::all(graph);
        for (name, why) in others {
            context.missed(&name, why);
        }
        if layers.is_empty() {
            context.missed(
                "",
                "there is no weight of a convolution or a linear layer to prune",
            );
            return Ok(Changed::No);
        }
        self.flow.check(&layers)?;
        let set = context.training.training_set()?;
        let saved = saved_round(&mut layers, context)?;
        if let Some(round) = saved {
            context.analysis("", format!("went on at {}", self.place(round)));
        }
        // From 1, a round for each step; the trim is one more.
        for round in saved.unwrap_or(1)..=self.steps + 1 {
            if saved != Some(round) {
                let moved = self.change(&mut layers, round, context.seed)?;
                context.analysis("", self.say(round, moved, &layers));
            }
            layers.iter().for_each(|layer| layer.write(graph));
            self.train(graph, &layers, round, &set, context)?;
            layers.iter_mut().for_each(|layer| layer.read(graph));
        }
        for layer in &layers {
            let (kept, all) = (layer.mask.count(), layer.len());
            let share = 100.0 * kept as f64 / all as f64;
            context.applied(
                &layer.name,
                format!("kept {kept} of {all} weights, {share:.2} %"),
            );
        }
        Ok(Changed::Yes)
    }
}

impl Drop {
    /// Drops weights and brings some back; in the last round, trims.
    fn change(&self, layers: &mut [Layer], round: usize, seed: u64) -> Result<Moved> {
        if round > self.steps {
            return self.flow.trim(layers);
        }
        let flow = if self.ramp {
            self.flow.ramped(round as f64 / self.steps as f64)
        } else {
            self.flow
        };
        flow.step(layers, seed, round as u64)
    }

    /// Trains the network of this round, or goes on with that.
    fn train(
        &self,
        graph: &mut Graph,
        layers: &[Layer],
        round: usize,
        set: &TrainingSet,
        context: &mut PassContext<'_>,
    ) -> Result<()> {
        let is_last = round > self.steps;
        let (epochs, before) = (
            self.epochs[usize::from(is_last)],
            (round - 1) * self.epochs[0],
        );
        let settings = Settings {
            epochs,
            before,
            keep: if is_last { Keep::Best } else { Keep::Last },
            rate: rate(self.rate, graph),
            distill: self.distill,
            decay: self.decay,
            ..Settings::default()
        };
        let all = (self.steps * self.epochs[0] + self.epochs[1]) as f64;
        let training = Round {
            set,
            settings,
            own: State {
                notes: [(ROUND.to_string(), round.to_string())].into(),
                tensors: if context.training.saves() {
                    layers.iter().flat_map(Layer::tensors).collect()
                } else {
                    BTreeMap::new()
                },
            },
            place: self.place(round),
            part: before as f64 / all..(before + epochs) as f64 / all,
        };
        // Layers are not balanced: what returns has the scale with which it left.
        let _changed = train(graph, &training, context)?;
        match &context.stop_reason {
            Some(why) if !is_last => Err(Error::Usage {
                what: format!("in {} training stopped: {why}", self.place(round)),
                help: "take a smaller lr, or more steps".into(),
            }),
            _ => Ok(()),
        }
    }

    /// `step 3 of 10`
    fn place(&self, round: usize) -> String {
        if round <= self.steps {
            format!("step {round} of {}", self.steps)
        } else {
            "the training after the trim".into()
        }
    }

    fn say(&self, round: usize, moved: Moved, layers: &[Layer]) -> String {
        let (all, pruned) = count(layers);
        let Moved { left, returned } = moved;
        format!(
            "{}: {left} weights left and {returned} returned; {pruned} of {all} are pruned, {:.2} %",
            if round <= self.steps {
                self.place(round)
            } else {
                "trim".into()
            },
            100.0 * pruned as f64 / all as f64
        )
    }
}

/// The round that was saved, if any, with the layers as they were in it.
fn saved_round(layers: &mut [Layer], context: &PassContext<'_>) -> Result<Option<usize>> {
    let Some(saved) = context.training.saved() else {
        return Ok(None);
    };
    let round = saved.notes.get(ROUND).and_then(|round| round.parse().ok());
    let round = round.ok_or_else(|| of_another_run("it does not say which step it is of"))?;
    for layer in layers {
        layer
            .restore(|name| saved.tensors.get(name))
            .map_err(|name| of_another_run(&format!("it has no `{name}`")))?;
    }
    Ok(Some(round))
}
