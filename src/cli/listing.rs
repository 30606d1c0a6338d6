//! `--list-passes`.

use optc::pipeline::{OptionSpec, REPEAT, Registry};

/// Every pass with its kind, its options and their defaults.
pub fn passes() -> String {
    let registry = Registry::standard();
    let groups = registry.groups().iter().map(|group| group.info);
    let passes = || registry.passes().iter().copied().chain(groups.clone());
    let width = passes().map(|pass| pass.name.len()).max();
    let width = width.unwrap_or(0).max(REPEAT.name.len());
    let mut text = String::new();
    for pass in passes() {
        text += &format!(
            "{:width$}  {:7}  {}\n{}",
            pass.name,
            pass.kind.to_string(),
            pass.summary,
            options(pass.options)
        );
    }
    text += &format!(
        "{:width$}  {:7}  {}\n{}",
        REPEAT.name,
        "",
        REPEAT.summary,
        options(REPEAT.options)
    );
    text
}

/// One line an option: its default, what it does, and what it takes.
fn options(specs: &[OptionSpec]) -> String {
    let default = |spec: &OptionSpec| format!("{}={}", spec.name, spec.default);
    let width = specs
        .iter()
        .map(|spec| default(spec).len())
        .max()
        .unwrap_or(0);
    let line = |spec| {
        format!(
            "    {:width$}  {} ({})\n",
            default(spec),
            spec.help,
            spec.values
        )
    };
    specs.iter().map(line).collect()
}
