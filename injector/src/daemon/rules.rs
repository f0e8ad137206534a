//! The rules of a run as they stand in the kernel, and changes to them.

use anyhow::Result;
use injector_ebpf::MAX_RULES;

use crate::{
    kernel::Kernel,
    plan::{Plan, Rule, compile, quantile},
};

/// Which of a rule's two tables is in use.
pub struct Rules {
    spare: Vec<bool>,
}

impl Rules {
    /// Writes every rule of the plan.
    pub fn install(plan: &Plan, kernel: &mut Kernel) -> Result<Self> {
        let mut rules = Self {
            spare: vec![true; plan.rules.len()],
        };
        for (index, rule) in plan.rules.iter().enumerate() {
            rules.replace(index, rule, plan.seed, kernel)?;
        }
        Ok(rules)
    }

    /// Writes one rule anew, with its delays in the table that no send is
    /// drawing from.
    pub fn replace(
        &mut self,
        index: usize,
        rule: &Rule,
        seed: u64,
        kernel: &mut Kernel,
    ) -> Result<()> {
        let spare = !self.spare[index];
        let slot = index as u32 + if spare { MAX_RULES } else { 0 };
        let table = rule
            .fault
            .delay
            .as_ref()
            .map(|delay| {
                quantile::table(delay, rule.max_delay, |path| std::fs::read_to_string(path))
            })
            .transpose()?;
        kernel.set_rule(
            index as u32,
            &compile::compile(rule, seed, slot),
            table.as_deref(),
        )?;
        self.spare[index] = spare;
        Ok(())
    }
}
