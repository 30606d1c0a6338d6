//! Training on data: all weights, by gradients, in libtorch.

use super::training;
use crate::Result;
use crate::pipeline::{Kind, OptionSpec, Options, Pass, PassInfo, Values};

/// Train the weights on data.
pub static FINETUNE: PassInfo = PassInfo {
    name: "finetune",
    summary: "train the weights on the data, by labels and by the answers of the network as it was read",
    kind: Kind::Trained,
    options: &[
        OptionSpec {
            name: "epochs",
            values: Values::Count {
                min: 1,
                max: 100_000,
            },
            default: "10",
            help: "passes over the data; the best is kept, as judged on a tenth of the data that is held out",
        },
        training::RATE,
        OptionSpec {
            name: "schedule",
            values: Values::Words(&["cosine", "step"]),
            default: "cosine",
            help: "how the rate falls: along half a cosine to 0, or in a step to a tenth after half of the epochs",
        },
        OptionSpec {
            name: "labels",
            values: Values::Flag,
            default: "true",
            help: "learn from the labels, by cross-entropy",
        },
        OptionSpec {
            name: "distill",
            values: Values::Number { min: 0.0, max: 1e3 },
            default: "2",
            help: "learn from the answers of the network as it was read, at this temperature; 0 for not at all",
        },
        OptionSpec {
            name: "batch",
            values: Values::Count {
                min: 1,
                max: 1 << 20,
            },
            default: "128",
            help: "samples a step",
        },
        OptionSpec {
            name: "momentum",
            values: Values::Number { min: 0.0, max: 1.0 },
            default: "0.9",
            help: "the momentum of the gradient",
        },
        OptionSpec {
            name: "nesterov",
            values: Values::Flag,
            default: "false",
            help: "Nesterov's momentum",
        },
        OptionSpec {
            name: "decay",
            values: Values::Number { min: 0.0, max: 1.0 },
            default: "0.0001",
            help: "weight decay",
        },
    ],
    build,
};

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
    use crate::passes::balance::balance;
    use crate::passes::training::{Round, rate, train};
    use crate::pipeline::{Changed, PassContext, State};

    struct Finetune {
        settings: Settings,
        /// `None` for one that the network bears.
        rate: Option<f64>,
    }

    pub(super) fn build(options: &Options) -> Result<Box<dyn Pass>> {
        let settings = Settings {
            epochs: options.count("epochs")?,
            schedule: match options.word("schedule")? {
                "step" => Schedule::Step,
                _ => Schedule::Cosine,
            },
            momentum: options.number("momentum")?,
            nesterov: options.flag("nesterov")?,
            decay: options.number("decay")?,
            batch: options.count("batch")?,
            distill: Some(options.number("distill")?).filter(|t| *t > 0.0),
            labels: options.flag("labels")?,
            ..Settings::default()
        };
        Ok(Box::new(Finetune {
            settings,
            rate: options.number_or_auto("lr")?,
        }))
    }

    impl Pass for Finetune {
        fn info(&self) -> &'static PassInfo {
            &FINETUNE
        }

        fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
            let round = Round {
                set: &context.training_set()?,
                settings: Settings {
                    rate: rate(self.rate, graph),
                    ..self.settings.clone()
                },
                own: State::default(),
                place: String::new(),
                part: 0.0..1.0,
            };
            let before = graph.clone();
            balance(graph);
            let changed = train(graph, &round, context)?;
            if !changed.is_yes() {
                *graph = before;
            }
            Ok(changed)
        }
    }
}
