//! `apportion offers`: what is in whose hands at this moment, and until when.

use apportion_sdk::operator::OfferSummary;
use apportion_types::document::{Amounts, Offer};
use serde::Serialize;

use crate::{
    client,
    output::answer,
    table::{Table, until},
};

pub(crate) async fn run(args: client::Args) -> anyhow::Result<()> {
    let Some(client) = args.start()? else { return Ok(()) };
    let offers = client.connect().await?.offers().await?;
    let listing = Listing { offers: offers.into_iter().map(document).collect() };
    answer(client.output, &listing, Listing::text)
}

/// What `-o json` gives.
#[derive(Debug, Serialize)]
struct Listing {
    offers: Vec<Offer>,
}

fn document(offer: OfferSummary) -> Offer {
    Offer {
        offer_id: offer.offer_id,
        framework_id: offer.framework_id,
        agent_id: offer.agent_id,
        hostname: offer.hostname,
        role: offer.role,
        resources: Amounts(offer.resources),
        made_at_us: offer.made_at,
        expires_at_us: offer.expires_at,
    }
}

impl Listing {
    fn text(&self) -> String {
        if self.offers.is_empty() {
            return "no offers are outstanding: no framework holds resources that it does not use\n"
                .to_owned();
        }
        let mut table =
            Table::new(&["OFFER", "FRAMEWORK", "AGENT", "HOST", "ROLE", "RESOURCES", "EXPIRES IN"]);
        for offer in &self.offers {
            table.row([
                offer.offer_id.to_string(),
                offer.framework_id.to_string(),
                offer.agent_id.to_string(),
                offer.hostname.clone(),
                offer.role.to_string(),
                offer.resources.0.to_string(),
                until(offer.expires_at_us),
            ]);
        }
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use apportion_proto::v1;

    use super::*;

    fn listing() -> Listing {
        let offer = v1::Offer {
            offer_id: "o1".into(),
            framework_id: "f1".into(),
            agent_id: "a1".into(),
            role: "etl".into(),
            resources: Some("cpus:1;mem:64".parse::<apportion_types::Resources>().unwrap().into()),
            hostname: "host".into(),
            address: "127.0.0.1:1".into(),
            attributes: [].into(),
            domain: None,
        };
        let summary = v1::OfferSummary { offer: Some(offer), made_at_us: 1, expires_at_us: 2 };
        Listing { offers: vec![document(OfferSummary::try_from(summary).unwrap())] }
    }

    #[test]
    fn a_table_shows_what_is_offered() {
        let listing = listing();
        let expected = "\
OFFER  FRAMEWORK  AGENT  HOST  ROLE  RESOURCES      EXPIRES IN
o1     f1         a1     host  etl   cpus:1;mem:64  0s
";
        assert_eq!(listing.text(), expected);
        assert_eq!(serde_json::to_value(&listing).unwrap()["offers"][0]["made_at_us"], 1);
        assert!(Listing { offers: vec![] }.text().starts_with("no offers are outstanding"));
    }
}
