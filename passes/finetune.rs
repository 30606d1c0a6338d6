//! Training on data: all weights, by gradients, in libtorch.

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
        OptionSpec {
            name: "lr",
            values: Values::Number { min: 0.0, max: 1e3 },
            default: "0.01",
            help: "the first learning rate",
        },
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
    Err(crate::Error::Usage {
        what: "`finetune` trains the network, and this optc was built without torch".into(),
        help: "build one with it: cargo install optc --features torch".into(),
    })
}

#[cfg(feature = "torch")]
use with_torch::build;

#[cfg(feature = "torch")]
mod with_torch {
    use super::*;
    use crate::Error;
    use crate::exec::torch::{Schedule, Settings, Trainer};
    use crate::ir::Graph;
    use crate::pipeline::{Changed, PassContext};

    struct Finetune(Settings);

    pub(super) fn build(options: &Options) -> Result<Box<dyn Pass>> {
        Ok(Box::new(Finetune(Settings {
            epochs: options.count("epochs")?,
            rate: options.number("lr")?,
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
            seed: 0,
        })))
    }

    impl Pass for Finetune {
        fn info(&self) -> &'static PassInfo {
            &FINETUNE
        }

        fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
            train(graph, &self.0, context)
        }
    }

    /// Trains `graph`, with the network as it was read for a teacher; goes on where an earlier run was broken off.
    fn train(
        graph: &mut Graph,
        settings: &Settings,
        context: &mut PassContext<'_>,
    ) -> Result<Changed> {
        let settings = Settings {
            seed: context.seed,
            ..settings.clone()
        };
        let set = context.training_set()?;
        let teacher = context.original().unwrap_or(graph).clone();
        let mut trainer = Trainer::new(graph, &teacher, &set, settings, context.device)?;
        if let Some(state) = context.saved() {
            trainer.restore(state)?;
            let done = trainer.epochs().len().saturating_sub(1);
            context.analysis("", format!("went on after epoch {done}"));
        }
        let _heeding = context.interrupt.heed();
        while !trainer.is_done() {
            let mut epoch = 0;
            let step = trainer.epoch(&mut |moment| {
                epoch = moment.epoch;
                context.progress(&moment.to_string(), moment.fraction);
                match context.interrupt.is_raised() {
                    true => Err(Error::Interrupted(String::new())),
                    false => Ok(()),
                }
            });
            step.map_err(|error| match error {
                Error::Interrupted(_) => context.interrupted(&format!("in epoch {epoch}")),
                error => error,
            })?;
            context.save(trainer.state()?)?;
        }
        for epoch in trainer.epochs() {
            let mut text = format!("epoch {}:", epoch.number);
            if let Some(loss) = epoch.loss {
                text += &format!(" loss {loss:.4};");
            }
            if let Some(judgement) = epoch.held_out {
                text += &format!(" held out: loss {:.4}", judgement.loss);
                if let Some(right) = judgement.right {
                    text += &format!(", {:.2} % right", 100.0 * right);
                }
            }
            context.analysis("", text.trim_end_matches(';'));
        }
        if let Some(why) = trainer.stopped() {
            context.missed("", format!("training stopped: {why}"));
            context.stop_reason = Some(why.to_string());
        }
        let best = trainer.best().map_or(0, |best| best.number);
        trainer.finish(graph)?;
        match best {
            0 => context.missed("", "no epoch was better than the network as it came"),
            best => context.applied("", format!("trained; epoch {best} was the best")),
        }
        Ok((best > 0).into())
    }
}
