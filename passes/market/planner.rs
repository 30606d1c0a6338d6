//! The planner: which of all offers are taken, so that the network costs as little as asked and loses as little as can be.

use rustc_hash::FxHashMap;

use crate::ir::NodeId;
use crate::pipeline::{Offer, Unit};

/// What every method offers for one unit.
pub struct Stall {
    /// The unit.
    pub of: Unit,
    /// The methods' names and their offers.
    pub offers: Vec<(&'static str, Offer)>,
}

/// All offers, and what they are weighed by.
pub struct Planner {
    /// The units.
    pub stalls: Vec<Stall>,
    /// What layers cost that an offer is about.
    prices: FxHashMap<NodeId, f64>,
    /// What the outputs lose, squared, for each squared relative error of a layer.
    counts: FxHashMap<NodeId, f64>,
}

/// For each unit, the offer that is taken.
pub type Plan = Vec<Option<usize>>;

impl Planner {
    /// Of offers, with what the layers that they are about cost.
    pub fn new(stalls: Vec<Stall>, prices: FxHashMap<NodeId, f64>) -> Planner {
        Planner {
            stalls,
            prices,
            counts: FxHashMap::default(),
        }
    }

    /// What the layers cost that offers are about.
    pub fn price(&self) -> f64 {
        self.prices.values().sum()
    }

    /// Says how much a squared relative error of a layer's result counts at the outputs; 1 where nobody says.
    pub fn set_count(&mut self, layer: NodeId, count: f64) {
        self.counts.insert(layer, count);
    }

    /// The plan under which the layers cost `target` at most, or the least that they can.
    ///
    /// It goes from the whole network to smaller ones, each time by the offer that saves most for what it loses.
    pub fn plan(&self, target: f64) -> Plan {
        let mut plan: Plan = vec![None; self.stalls.len()];
        // What share of each layer's price the offers taken so far leave.
        let mut left: FxHashMap<NodeId, f64> = self.prices.keys().map(|n| (*n, 1.0)).collect();
        let mut cost = self.price();
        while cost > target {
            let Some((stall, offer)) = self.best(&plan, &left, cost - target) else {
                break;
            };
            for (of, sign) in [(plan[stall], -1.0), (Some(offer), 1.0)] {
                for (node, share) in of.map_or(&[][..], |o| &self.stalls[stall].offers[o].1.costs) {
                    if let Some(left) = left.get_mut(node) {
                        *left *= share.max(LEAST).powf(sign);
                    }
                }
            }
            plan[stall] = Some(offer);
            cost = left.iter().map(|(n, left)| left * self.prices[n]).sum();
        }
        plan
    }

    /// The next offer to take, and its unit: the one that saves most for what it loses; where that is more than the `excess`, the
    /// one that loses least of those that save enough.
    fn best(
        &self,
        plan: &Plan,
        left: &FxHashMap<NodeId, f64>,
        excess: f64,
    ) -> Option<(usize, usize)> {
        let mut by_gain: Option<(f64, f64, usize, usize)> = None;
        let mut enough: Option<(f64, usize, usize)> = None;
        for (i, stall) in self.stalls.iter().enumerate() {
            let taken = plan[i].map(|taken| &stall.offers[taken].1);
            let lost = taken.map_or(0.0, |taken| self.loss(taken));
            for (o, (_, offer)) in stall.offers.iter().enumerate() {
                let saved = match taken {
                    None => self.saved(offer, left),
                    Some(taken) => self.cost(taken, taken, left) - self.cost(offer, taken, left),
                };
                if saved <= 0.0 {
                    continue;
                }
                let loss = (self.loss(offer) - lost).max(f64::MIN_POSITIVE);
                if by_gain.is_none_or(|(most, ..)| saved / loss > most) {
                    by_gain = Some((saved / loss, saved, i, o));
                }
                if saved >= excess && enough.is_none_or(|(least, ..)| loss < least) {
                    enough = Some((loss, i, o));
                }
            }
        }
        match (by_gain, enough) {
            (Some((_, saved, ..)), Some((_, i, o))) if saved >= excess => Some((i, o)),
            (by_gain, _) => by_gain.map(|(_, _, i, o)| (i, o)),
        }
    }

    /// What an offer saves where none is taken yet for its unit.
    fn saved(&self, offer: &Offer, left: &FxHashMap<NodeId, f64>) -> f64 {
        let costs = offer.costs.iter();
        costs
            .filter_map(|(node, share)| Some(self.prices.get(node)? * left[node] * (1.0 - share)))
            .sum()
    }

    /// What the layers of an offer cost with it, `taken` being what is taken for its unit now.
    fn cost(&self, offer: &Offer, taken: &Offer, left: &FxHashMap<NodeId, f64>) -> f64 {
        let share = |of: &Offer, node: &NodeId| {
            let found = of.costs.iter().find(|(n, _)| n == node);
            found.map_or(1.0, |(_, share)| share.max(LEAST))
        };
        let costs = taken.costs.iter();
        costs
            .filter_map(|(node, old)| {
                let price = self.prices.get(node)? * left[node];
                Some(price * share(offer, node) / old.max(LEAST))
            })
            .sum()
    }

    /// What an offer loses at the outputs, squared.
    pub fn loss(&self, offer: &Offer) -> f64 {
        let losses = offer.losses.iter();
        let count = |node: &NodeId| self.counts.get(node).copied().unwrap_or(1.0);
        losses
            .map(|(node, loss)| count(node) * to_signal(*loss))
            .sum()
    }

    /// The fraction of the layers' price that a plan leaves.
    pub fn left(&self, plan: &Plan) -> f64 {
        let mut left = self.prices.clone();
        let costs = self.taken(plan).flat_map(|(.., offer)| &offer.costs);
        for (node, share) in costs {
            if let Some(left) = left.get_mut(node) {
                *left *= share;
            }
        }
        left.values().sum::<f64>() / self.price().max(f64::MIN_POSITIVE)
    }

    /// The offers of a plan.
    pub fn taken<'p>(
        &'p self,
        plan: &'p Plan,
    ) -> impl Iterator<Item = (Unit, &'static str, &'p Offer)> {
        let stalls = self.stalls.iter().zip(plan);
        stalls.filter_map(|(stall, taken)| {
            let (name, offer) = &stall.offers[(*taken)?];
            Some((stall.of, *name, offer))
        })
    }
}

/// A squared relative error, to what is left of the result. A layer that loses nearly all of its result loses without end, or the
/// largest offer would be the best.
fn to_signal(loss: f64) -> f64 {
    loss / (1.0 - loss).max(LEAST)
}

/// The least share of its price that a layer has, so that shares can be divided by.
const LEAST: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Graph;

    fn nodes() -> [NodeId; 2] {
        let graph: Graph = "graph net(%x: f32[1], %y: f32[1]) {
            return %x, %y
        }"
        .parse()
        .unwrap();
        [graph.inputs()[0], graph.inputs()[1]]
    }

    fn offer(costs: &[(NodeId, f64)], losses: &[(NodeId, f64)]) -> Offer {
        Offer {
            what: String::new(),
            losses: losses.to_vec(),
            costs: costs.to_vec(),
            apply: Box::new(|_| Ok(())),
        }
    }

    #[test]
    fn methods_compete_for_a_layer_and_layers_for_the_budget() {
        let [a, b] = nodes();
        let form = |node, offers: Vec<Offer>| Stall {
            of: Unit::Layer(node),
            offers: offers.into_iter().map(|offer| ("one", offer)).collect(),
        };
        let stalls = vec![
            form(
                a,
                vec![
                    offer(&[(a, 0.5)], &[(a, 0.1)]),
                    offer(&[(a, 0.4)], &[(a, 0.05)]),
                ],
            ),
            form(b, vec![offer(&[(b, 0.5)], &[(b, 0.3)])]),
            // Channels between both: they multiply with what is taken for a layer.
            Stall {
                of: Unit::Channels(a),
                offers: vec![("cut", offer(&[(a, 0.5), (b, 0.5)], &[(b, 0.2)]))],
            },
        ];
        let prices = [(a, 100.0), (b, 100.0)].into_iter().collect();
        let mut planner = Planner::new(stalls, prices);
        assert_eq!(planner.plan(200.0), [None, None, None]);
        assert_eq!(planner.plan(140.0), [Some(1), None, None]);
        assert_eq!(planner.plan(70.0), [Some(1), None, Some(0)]);
        assert_eq!(planner.plan(0.0), [Some(1), Some(0), Some(0)]);
        planner.set_count(a, 100.0);
        assert_eq!(planner.plan(140.0), [None, None, Some(0)]);
    }

    #[test]
    fn a_cheaper_offer_takes_the_place_of_another() {
        let [a, _] = nodes();
        let offers = [(0.5, 0.01), (0.25, 0.1)];
        let stall = Stall {
            of: Unit::Layer(a),
            offers: offers
                .map(|(share, loss)| ("one", offer(&[(a, share)], &[(a, loss)])))
                .into(),
        };
        let planner = Planner::new(vec![stall], [(a, 100.0)].into_iter().collect());
        assert_eq!(planner.plan(60.0), [Some(0)]);
        assert_eq!(planner.plan(30.0), [Some(1)]);
        let plan = planner.plan(30.0);
        let taken = planner.taken(&plan);
        let lost: f64 = taken.map(|(.., offer)| planner.loss(offer)).sum();
        assert!((lost - 0.1 / 0.9).abs() < 1e-12);
    }
}
