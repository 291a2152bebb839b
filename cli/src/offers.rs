//! `apportion offers`: what is in whose hands at this moment, and until when.

use apportion_sdk::operator::OfferSummary;
use serde::Serialize;

use crate::{
    amounts::Amounts,
    client,
    output::answer,
    table::{Table, until},
};

/// List the outstanding offers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    client: client::Args,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Some(client) = args.client.start()? else { return Ok(()) };
    let offers = client.connect().await?.offers().await?;
    let listing = Listing { offers: offers.into_iter().map(Offer::from).collect() };
    answer(client.output, &listing, Listing::text)
}

/// What `-o json` gives.
#[derive(Debug, Serialize)]
struct Listing {
    offers: Vec<Offer>,
}

#[derive(Debug, Serialize)]
struct Offer {
    offer_id: String,
    framework_id: String,
    agent_id: String,
    hostname: String,
    role: String,
    resources: Amounts,
    made_at_us: u64,
    expires_at_us: u64,
}

impl From<OfferSummary> for Offer {
    fn from(offer: OfferSummary) -> Offer {
        Offer {
            offer_id: offer.offer_id.to_string(),
            framework_id: offer.framework_id.to_string(),
            agent_id: offer.agent_id.to_string(),
            hostname: offer.hostname,
            role: offer.role.to_string(),
            resources: Amounts(offer.resources),
            made_at_us: offer.made_at.as_micros(),
            expires_at_us: offer.expires_at.as_micros(),
        }
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
                offer.offer_id.clone(),
                offer.framework_id.clone(),
                offer.agent_id.clone(),
                offer.hostname.clone(),
                offer.role.clone(),
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
    use serde_json::json;

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
        };
        let summary = v1::OfferSummary { offer: Some(offer), made_at_us: 1, expires_at_us: 2 };
        Listing { offers: vec![OfferSummary::try_from(summary).unwrap().into()] }
    }

    #[test]
    fn tables_and_json_keep_their_form() {
        let listing = listing();
        let expected = "\
OFFER  FRAMEWORK  AGENT  HOST  ROLE  RESOURCES      EXPIRES IN
o1     f1         a1     host  etl   cpus:1;mem:64  0s
";
        assert_eq!(listing.text(), expected);
        let expected = json!({"offers": [{
            "offer_id": "o1", "framework_id": "f1", "agent_id": "a1", "hostname": "host", "role": "etl",
            "resources": {"text": "cpus:1;mem:64", "scalars": {"cpus": 1.0, "mem": 64.0}}, "made_at_us": 1, "expires_at_us": 2,
        }]});
        assert_eq!(serde_json::to_value(&listing).unwrap(), expected);
        assert!(Listing { offers: vec![] }.text().starts_with("no offers are outstanding"));
    }
}
