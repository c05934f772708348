//! The face of the stage.
impl Registrations {
    pub fn start(config: &Config, folder: &Path, slot: SlotLength) -> Result<Registrations, StartError>;
    pub fn stop(&self);                               // blocking: flushes clocks and closes the store; at drain

    // frame path
    pub fn codebook(&self) -> Arc<Codebook>;
    pub fn cached(&self, device: DeviceId) -> Option<Arc<Registration>>;
    pub fn heard(&self, hit: Hit, at: UnixMs);

    // look-ups. `find` answers the live binding of the dongle, else the last revoked one: check `status`
    pub async fn find(&self, device: DeviceId) -> Result<Option<Arc<Registration>>, Unavailable>;
    pub async fn binding(&self, binding: BindingId) -> Result<Option<Arc<Registration>>, Unavailable>;
    pub async fn proof_key(&self, device: DeviceId) -> Result<Option<ProofKey>, Unavailable>;
    pub fn changes(&self) -> tokio::sync::broadcast::Receiver<Change>;
    pub fn station_known(&self, station: StationId) -> bool;
    pub async fn station(&self, station: StationId) -> Result<Option<Station>, Unavailable>;
    pub async fn stations(&self) -> Result<Vec<Station>, Unavailable>;

    // import
    pub async fn import_stations(&self, csv: impl Read + Send + 'static, progress: impl FnMut(Progress) + Send + 'static) -> Result<ImportReport, ImportError>;
    pub async fn import_devices(&self, csv: impl Read + Send + 'static, progress: impl FnMut(Progress) + Send + 'static) -> Result<ImportReport, ImportError>;

    // coupling and phone
    pub async fn claim(&self, claim: Claim) -> Result<Claimed, Error>;
    pub async fn prove(&self, proof: CouplingProof) -> Result<Coupled, Error>;
    pub async fn phone_token(&self, request: PhoneTokenRequest) -> Result<Token, Error>;
    pub fn issue_nonce(&self, binding: BindingId, purpose: Purpose) -> IssuedNonce;   // {nonce: [u8;32], expires: UnixMs}
    pub async fn phone_presence(&self, proof: PresenceProof) -> Result<Arc<Registration>, Error>;
    pub async fn phone_clock(&self, proof: ClockProof) -> Result<(), Error>;

    // tokens
    pub async fn issue(&self, role: Role, ttl_ms: Option<u64>) -> Result<Token, Unavailable>;
    pub async fn resolve(&self, token: &str) -> Result<Option<Role>, Unavailable>;
    pub async fn revoke_token(&self, token: &str) -> Result<bool, Unavailable>;
    pub fn ensure_operator_token(&self, folder: &Path) -> Result<Token, StartError>;

    // operator; `who` goes into the audit
    pub async fn suspend(&self, binding: BindingId, who: &str) -> Result<Arc<Registration>, Error>;
    pub async fn restore(&self, binding: BindingId, who: &str) -> Result<Arc<Registration>, Error>;
    pub async fn revoke(&self, binding: BindingId, who: &str) -> Result<Arc<Registration>, Error>;
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditRow>, Unavailable>;      // newest first
}

pub struct Station { pub id: StationId, pub name: String, pub brand: String, pub lat: Option<f64>, pub lon: Option<f64>, pub pumps: u16 }
pub enum Role { Terminal(StationId), Phone(BindingId), Operator }
pub struct Token(String);                              // Debug redacted; `.reveal() -> &str`
pub enum Purpose { Presence, Clock }
pub struct Claim { pub activation_code: String, pub phone_key: [u8; 32], pub plate: String, pub fuel: Option<String>, pub means: Vec<String>, pub signature: [u8; 64] }
pub fn claim_message(activation_code: &str, phone_key: &[u8; 32], plate: &str) -> Vec<u8>;      // what the phone signs
pub fn phone_token_message(device: DeviceId, at: UnixMs) -> Vec<u8>;
pub struct Claimed { pub coupling: CouplingId /* 16 bytes, hex */, pub device: DeviceId, pub nonce: [u8; 32], pub expires: UnixMs }
pub struct CouplingProof { pub coupling: CouplingId, pub mac: [u8; 32], pub signature: [u8; 64] }
pub struct Coupled { pub registration: Arc<Registration>, pub token: Token }
pub struct PhoneTokenRequest { pub device: DeviceId, pub at: UnixMs, pub signature: [u8; 64] }
pub struct PresenceProof { pub binding: BindingId, pub nonce: [u8; 32], pub station: StationId, pub mac: [u8; 32], pub signature: [u8; 64] }
pub struct ClockProof { pub binding: BindingId, pub nonce: [u8; 32], pub slot: u64, pub mac: [u8; 32], pub signature: [u8; 64] }
pub struct ImportReport { pub accepted: u64, pub unchanged: u64, pub refused: u64, pub refusals: Vec<Refusal{line: u64, reason: String}> /* the first 1,000 */ }
pub struct Progress { pub lines: u64, pub refused: u64 }
