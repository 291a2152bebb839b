//! `apportion offers`: what is in whose hands at this moment, and until when.

use apportion_sdk::operator::OfferSummary;
use apportion_types::document::{Amounts, Offer};

use crate::{
    list::{self, List},
    table::until,
};

const LIST: List<'static, Offer, 7> = List {
    name: "offers",
    heads: ["OFFER", "FRAMEWORK", "AGENT", "HOST", "ROLE", "RESOURCES", "EXPIRES IN"],
    empty: "no offers are outstanding: no framework holds resources that it does not use\n",
    row: |offer| {
        [
            offer.offer_id.to_string(),
            offer.framework_id.to_string(),
            offer.agent_id.to_string(),
            offer.hostname.clone(),
            offer.role.to_string(),
            offer.resources.0.to_string(),
            until(offer.expires_at_us),
        ]
    },
};

pub(crate) async fn run(args: list::Args) -> anyhow::Result<()> {
    let Some(client) = args.client.start()? else { return Ok(()) };
    let master = client.connect().await?;
    let fetch = async |size, after: Option<&str>| master.ask(|it| it.offers_page(size, after)).await;
    LIST.print(client.output, args.limit, fetch, document).await.map(|_| ())
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
        unavailability: offer.unavailability.map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use apportion_proto::v1;

    use super::*;

    fn offer() -> Offer {
        let offer = v1::Offer {
            unavailability: None,
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
        document(OfferSummary::try_from(summary).unwrap())
    }

    #[test]
    fn a_table_shows_what_is_offered() {
        let expected = "\
OFFER  FRAMEWORK  AGENT  HOST  ROLE  RESOURCES      EXPIRES IN
o1     f1         a1     host  etl   cpus:1;mem:64  0s
";
        assert_eq!(LIST.text(&[offer()]), expected);
        assert_eq!(serde_json::to_value(offer()).unwrap()["made_at_us"], 1);
        assert!(LIST.text(&[]).starts_with("no offers are outstanding"));
    }
}
