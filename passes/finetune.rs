//! Training on data: all weights, by gradients, in libtorch.

use super::training;
use crate::pipeline::{Kind, Options, Pass, PassInfo, Values};
use crate::{Result, options, words};

/// Train the weights on data.
pub static FINETUNE: PassInfo = PassInfo {
    name: "finetune",
    summary: "train the weights on the data, by labels and by the answers of the network as it was read",
    kind: Kind::Trained,
    options: FinetuneOptions::SPECS,
    build,
};

words! {
    /// How the rate falls.
    enum Falls {
        Cosine = "cosine",
        Step = "step",
    }
}

options! {
    /// The options of `finetune`.
    struct FinetuneOptions {
        epochs: usize = "10", Values::Count { min: 1, max: 100_000 },
            "passes over the data; the best is kept, as judged on a tenth of the data that is held out";
        lr: Option<f64> = "auto", training::RATES, training::RATE;
        schedule: Falls = "cosine", Values::Words(Falls::WORDS),
            "how the rate falls: along half a cosine to 0, or in a step to a tenth after half of the epochs";
        labels: bool = "true", Values::Flag,
            "learn from the labels, by cross-entropy";
        distill: f64 = "2", Values::Number { min: 0.0, max: 1e3 },
            "learn from the answers of the network as it was read, at this temperature; 0 for not at all";
        batch: usize = "128", Values::Count { min: 1, max: 1 << 20 },
            "samples a step";
        momentum: f64 = "0.9", Values::Number { min: 0.0, max: 1.0 },
            "the momentum of the gradient";
        nesterov: bool = "false", Values::Flag,
            "Nesterov's momentum";
        decay: f64 = "0.0001", Values::Number { min: 0.0, max: 1.0 },
            "weight decay";
    }
}

#[cfg(not(feature = "torch"))]
fn build(_: &Options) -> Result<Box<dyn Pass>> {
    Err(training::not_built_in("finetune"))
}

#[cfg(feature = "torch")]
use with_torch::build;

#[cfg(feature = "torch")]
mod with_torch {
    use super::*;
    use crate::exec::torch::{Schedule, Settings};
    use crate::ir::Graph;
    use crate::passes::equalization::equalize;
    use crate::passes::training::{Round, rate, train};
    use crate::pipeline::{Changed, PassContext, State};

    struct Finetune {
        settings: Settings,
        /// `None` for one that the network bears.
        rate: Option<f64>,
    }

    pub(super) fn build(options: &Options) -> Result<Box<dyn Pass>> {
        let options = FinetuneOptions::of(options)?;
        let settings = Settings {
            epochs: options.epochs,
            schedule: match options.schedule {
                Falls::Cosine => Schedule::Cosine,
                Falls::Step => Schedule::Step,
            },
            momentum: options.momentum,
            nesterov: options.nesterov,
            decay: options.decay,
            batch: options.batch,
            distill: Some(options.distill).filter(|t| *t > 0.0),
            labels: options.labels,
            ..Settings::default()
        };
        Ok(Box::new(Finetune {
            settings,
            rate: options.lr,
        }))
    }

    impl Pass for Finetune {
        fn info(&self) -> &'static PassInfo {
            &FINETUNE
        }

        fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
            let round = Round {
                set: &context.training.training_set()?,
                settings: Settings {
                    rate: rate(self.rate, graph),
                    ..self.settings.clone()
                },
                own: State::default(),
                place: String::new(),
                part: 0.0..1.0,
            };
            let before = graph.clone();
            equalize(graph);
            let changed = train(graph, &round, context)?;
            if !changed.is_yes() {
                *graph = before;
            }
            Ok(changed)
        }
    }
}
