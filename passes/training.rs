//! What passes that train have in common: they go on where they were broken off, say how it goes, and keep the best epoch.

use super::balance::balance;
use crate::Result;
use crate::exec::torch::{Epoch, Keep, Settings, Trainer};
use crate::ir::Graph;
use crate::pipeline::{Changed, PassContext, State};

/// Trains `graph` as [`train_as_it_is`] does, its layers balanced before.
///
/// # Errors
/// As there.
pub(crate) fn train(
    graph: &mut Graph,
    settings: &Settings,
    own: &State,
    context: &mut PassContext<'_>,
) -> Result<Changed> {
    let before = graph.clone();
    balance(graph);
    let changed = train_as_it_is(graph, settings, own, context)?;
    if !changed.is_yes() {
        *graph = before;
    }
    Ok(changed)
}

/// Trains `graph`, with the network as it was read for a teacher, and the context's seed.
///
/// `own` is what the pass itself needs to come back to this training, saved with it after each epoch. Training goes on from
/// what was saved before if that has the same notes: a pass that trains in several rounds notes the round.
///
/// # Errors
/// Those of [`Trainer`], of the data and of the checkpoint; [`Interrupted`](crate::Error::Interrupted) when the run was asked
/// to end.
pub(crate) fn train_as_it_is(
    graph: &mut Graph,
    settings: &Settings,
    own: &State,
    context: &mut PassContext<'_>,
) -> Result<Changed> {
    let settings = Settings {
        seed: context.seed,
        ..settings.clone()
    };
    let set = context.training_set()?;
    let teacher = context.original().unwrap_or(graph).clone();
    let mut trainer = Trainer::new(graph, &teacher, &set, settings.clone(), context.device)?;
    let is_ours = |saved: &&State| { own.notes.iter() }.all(|(k, v)| saved.notes.get(k) == Some(v));
    if let Some(saved) = context.saved().filter(is_ours) {
        trainer.restore(saved)?;
        let done = trainer.epochs().len().saturating_sub(1);
        context.analysis("", format!("went on after epoch {done}"));
    }
    let _heeding = context.interrupt.heed();
    while !trainer.is_done() {
        trainer.epoch(&mut |moment| {
            context.progress(&moment.to_string(), moment.fraction);
            match context.interrupt.is_raised() {
                true => Err(context.interrupted(&format!("in epoch {}", moment.epoch))),
                false => Ok(()),
            }
        })?;
        let mut state = trainer.state()?;
        state.notes.extend(own.notes.clone());
        state.tensors.extend(own.tensors.clone());
        context.save(state)?;
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
    if settings.keep == Keep::Best {
        context.applied("", format!("trained; epoch {best} was the best"));
    }
    Ok(Changed::Yes)
}
