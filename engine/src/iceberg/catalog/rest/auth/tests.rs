use super::*;
use aws_credential_types::Credentials;

/// The `Authorization` header at 2026-11-30 09:00:00 UTC.
fn authorization(call: &Call, service: Service, token: Option<&str>) -> String {
    let keys = Credentials::new(
        "AKIDEXAMPLE",
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        token.map(str::to_owned),
        None,
        "test",
    );
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_796_029_200);
    let headers = signed(call, &keys.into(), service.name(), "eu-west-1", time).unwrap();
    let value = |wanted: &str| {
        let found = headers.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone())
    };
    assert_eq!(value("x-amz-date").as_deref(), Some("20261130T090000Z"));
    assert_eq!(value("x-amz-security-token").as_deref(), token);
    value("authorization").unwrap()
}

fn url(service: Service, path: &str) -> String {
    format!("{}{path}", service.uri("eu-west-1"))
}

/// The expected values are those of botocore 1.43.11 for the same requests, in its notation.
#[test]
fn requests_are_signed_byte_for_byte_as_botocore_signs_them() {
    let glue = Call::get(url(Service::Glue, "/v1/config?warehouse=123456789012"));
    assert_eq!(
        authorization(&glue, Service::Glue, None),
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261130/eu-west-1/glue/aws4_request, \
         SignedHeaders=host;x-amz-date, \
         Signature=7edc1e0097d2bddcc5bd626f7a23bd09cdc70036f22509134237f4bb0fbbcaf9"
    );
    let path = "/v1/catalogs/123456789012/namespaces/my%1Fdb/tables/sales%20x";
    let commit = Call::post(url(Service::Glue, path), br#"{"a":1}"#.to_vec());
    assert_eq!(
        authorization(&commit, Service::Glue, Some("tok/en+=")),
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261130/eu-west-1/glue/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, \
         Signature=e2778ff53975e8a51b23a909daeb7df032d701ce0228d54f1087ae9dd9d1ed7f"
    );
    let path = "/v1/arn%3Aaws%3As3tables%3Aeu-west-1%3A123456789012%3Abucket%2Fb/namespaces/db\
                /tables/t";
    let load = Call::get(url(Service::S3Tables, path));
    assert_eq!(
        authorization(&load, Service::S3Tables, None),
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261130/eu-west-1/s3tables/aws4_request, \
         SignedHeaders=host;x-amz-date, \
         Signature=edfa4ec1d6a76398fee7c9364a0e4960cc78af6262d209c0c2bb42ff1facd146"
    );
}
