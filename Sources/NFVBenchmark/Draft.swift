/// One row of the results of draft-natarajan-nfvrg-containers-for-nfv-03 (4.2 to 4.6).
public struct DraftResult: Sendable, Hashable {
  /// As the draft writes it.
  public var technology: String
  /// From the create operation until the first RST (4.2).
  public var instantiationMilliseconds: Double
  /// TCP from and to the function (4.3).
  public var txGbps, rxGbps: Double
  /// A ping flood's average (4.4).
  public var roundTripMilliseconds: Double
  public var imageMegabytes: Double
  public var memoryMegabytes: Double

  /// All of them, in the draft's order of instantiation times.
  public static let all = [
    DraftResult("standardvm.xen", 6500, 23.1, 24.5, 34, 913, 112),
    DraftResult("standardvm.kvm", 2988, 20.1, 38.9, 18, 913, 82),
    DraftResult("Container", 1711, 45.1, 43.8, 4, 61, 3.8),
    DraftResult("tinyx.kvm", 1081, 21.5, 37.9, 19, 3.5, 30),
    DraftResult("tinyx.xen", 431, 28.6, 24.9, 15, 3.7, 31),
    DraftResult("unikernel.osv.kvm", 330, 47.9, 47.7, 9, 12, 52),
    DraftResult("unikernels.minios.xen", 31, 49.5, 32.6, 5, 2, 8),
  ]

  init(
    _ technology: String, _ instantiation: Double, _ tx: Double, _ rx: Double, _ roundTrip: Double,
    _ image: Double, _ memory: Double
  ) {
    self.technology = technology
    instantiationMilliseconds = instantiation
    txGbps = tx
    rxGbps = rx
    roundTripMilliseconds = roundTrip
    imageMegabytes = image
    memoryMegabytes = memory
  }
}

/// A form in which one package's function runs: a deployment flavour of it, and what the draft
/// measured that comes closest.
public struct Form: Sendable, Hashable {
  public var flavour: String
  public var draft: DraftResult
  /// Starting it takes seconds, not milliseconds, so it is done less often.
  public var isSlow: Bool

  /// Those that are known, the fastest first. A host runs some of them.
  public static let all = [
    Form("container", like: "Container", isSlow: false),
    Form("unikernel", like: "unikernel.osv.kvm", isSlow: false),
    Form("tinyx", like: "tinyx.kvm", isSlow: true),
    Form("standardvm", like: "standardvm.kvm", isSlow: true),
  ]

  private init(_ flavour: String, like technology: String, isSlow: Bool) {
    guard let draft = DraftResult.all.first(where: { $0.technology == technology }) else {
      fatalError("the draft measured no \(technology)")
    }
    self.flavour = flavour
    self.draft = draft
    self.isSlow = isSlow
  }
}

/// What was measured of a form on this host: the draft's five quantities.
public struct FormFigures: Sendable, Hashable {
  public var form: Form
  /// `kvm` or `tcg` of a virtual machine, `none` of others.
  public var accelerator: String
  /// Milliseconds from the request until the first RST, until its process runs, until COMPLETED.
  public var rst, running, ready: Distribution
  /// TCP from and to the function, Gbit/s.
  public var tx, rx: Distribution
  /// A ping flood's average, microseconds.
  public var roundTrip: Distribution
  public var imageBytes, memoryBytes: Int64

  public init(
    form: Form, accelerator: String, rst: Distribution, running: Distribution,
    ready: Distribution, tx: Distribution, rx: Distribution, roundTrip: Distribution,
    imageBytes: Int64, memoryBytes: Int64
  ) {
    self.form = form
    self.accelerator = accelerator
    self.rst = rst
    self.running = running
    self.ready = ready
    self.tx = tx
    self.rx = rx
    self.roundTrip = roundTrip
    self.imageBytes = imageBytes
    self.memoryBytes = memoryBytes
  }
}
