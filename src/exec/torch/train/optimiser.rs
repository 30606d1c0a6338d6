//! Stochastic gradient descent with momentum, as libtorch's: `v <- momentum v + g`, `w <- w - rate v`, where `g` is the
//! gradient plus `decay w`; by Nesterov `w <- w - rate (g + momentum v)`. Weights under a mask stay 0.

use tch::{TchError, Tensor};

/// The optimiser and its state.
pub struct Sgd {
    momentum: f64,
    nesterov: bool,
    decay: f64,
    parameters: Vec<Parameter>,
}

struct Parameter {
    variable: Tensor,
    velocity: Tensor,
    /// 1 where the weight is trained, 0 where it stays 0.
    mask: Option<Tensor>,
}

impl Sgd {
    /// For these variables, each perhaps with a mask of its shape, 1 where it is trained and 0 where it stays 0.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn new(
        momentum: f64,
        nesterov: bool,
        decay: f64,
        variables: impl IntoIterator<Item = (Tensor, Option<Tensor>)>,
    ) -> Result<Sgd, TchError> {
        let parameter = |(variable, mask): (Tensor, Option<Tensor>)| {
            Ok(Parameter {
                velocity: variable.f_detach()?.f_zeros_like()?,
                variable,
                mask,
            })
        };
        let parameters = variables.into_iter().map(parameter);
        let mut sgd = Sgd {
            momentum,
            nesterov,
            decay,
            parameters: parameters.collect::<Result<_, TchError>>()?,
        };
        let _guard = tch::no_grad_guard();
        sgd.parameters.iter_mut().try_for_each(Parameter::hold)?;
        Ok(sgd)
    }

    /// One step against the gradients, which are 0 afterwards.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn step(&mut self, rate: f64) -> Result<(), TchError> {
        let _guard = tch::no_grad_guard();
        for parameter in &mut self.parameters {
            let Parameter {
                variable, velocity, ..
            } = parameter;
            let mut gradient = variable.f_grad()?;
            if !gradient.defined() {
                continue; // No output depends on it.
            }
            let options = (velocity.f_kind()?, velocity.device());
            let number = |x: f64| Tensor::f_full([0; 0], x, options);
            if self.decay != 0.0 {
                let _ = gradient.f_addcmul_(variable, &number(self.decay)?)?;
            }
            let _ = velocity.f_mul_scalar_(self.momentum)?.f_add_(&gradient)?;
            let rate = number(-rate)?;
            if self.nesterov {
                let _ = gradient.f_addcmul_(velocity, &number(self.momentum)?)?;
                let _ = variable.f_addcmul_(&gradient, &rate)?;
            } else {
                let _ = variable.f_addcmul_(velocity, &rate)?;
            }
            let _ = gradient.f_zero_()?;
            parameter.hold()?;
        }
        Ok(())
    }

    /// The velocities, in the order of the variables.
    pub(super) fn velocities(&self) -> impl Iterator<Item = &Tensor> {
        self.parameters.iter().map(|parameter| &parameter.velocity)
    }
}

impl Parameter {
    fn hold(&mut self) -> Result<(), TchError> {
        if let Some(mask) = &self.mask {
            let _ = self.variable.f_mul_(mask)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::nn::{self, OptimizerConfig};
    use tch::{Device, Kind};

    /// Both optimisers on the same weights and losses.
    #[test]
    fn it_steps_as_libtorch_does() -> Result<(), Box<dyn std::error::Error>> {
        for (momentum, nesterov, decay) in
            [(0.9, false, 1e-2), (0.9, true, 1e-2), (0.0, false, 0.0)]
        {
            let store = nn::VarStore::new(Device::Cpu);
            let start = Tensor::from_slice(&[1.0f32, -2.0, 0.5, 3.0]);
            let theirs = store.root().var_copy("w", &start);
            let config = nn::Sgd {
                momentum,
                dampening: 0.0,
                wd: decay,
                nesterov,
            };
            let mut reference = config.build(&store, 0.1)?;
            let ours = start.copy().set_requires_grad(true);
            let mut sgd = Sgd::new(momentum, nesterov, decay, [(ours.shallow_clone(), None)])?;
            for step in 0..5 {
                let loss = |w: &Tensor| (w * w * w + w * step).sum(Kind::Float);
                let rate = 0.01 / (step + 1) as f64;
                reference.set_lr(rate);
                reference.backward_step(&loss(&theirs));
                loss(&ours).backward();
                sgd.step(rate)?;
                let apart = (&theirs - &ours).abs().max().double_value(&[]);
                assert!(apart < 1e-6, "{apart} at step {step}");
            }
        }
        Ok(())
    }

    #[test]
    fn masked_weights_stay_0() -> Result<(), TchError> {
        let w = Tensor::from_slice(&[1.0f32, 2.0, 3.0]).set_requires_grad(true);
        let mask = Tensor::from_slice(&[1.0f32, 0.0, 1.0]);
        let mut sgd = Sgd::new(0.9, false, 1e-4, [(w.shallow_clone(), Some(mask))])?;
        for _ in 0..3 {
            (&w * 5.0 - 1.0).square().sum(Kind::Float).backward();
            sgd.step(0.01)?;
            assert_eq!(w.double_value(&[1]), 0.0);
        }
        assert!(w.double_value(&[0]) < 1.0);
        Ok(())
    }
}
