/// SOL003 5.5.3.4's names of the operations that have an occurrence.
public enum LcmOperationType: String, Sendable, Hashable, Codable, CaseIterable {
  case instantiate = "INSTANTIATE"
  case scale = "SCALE"
  case scaleToLevel = "SCALE_TO_LEVEL"
  case changeFlavour = "CHANGE_FLAVOUR"
  case operate = "OPERATE"
  case heal = "HEAL"
  case terminate = "TERMINATE"
  case modifyInfo = "MODIFY_INFO"

  /// Whether what it changed can be undone (SOL003 5.6.2.3).
  public var canRollBack: Bool {
    switch self {
    case .instantiate, .scale, .scaleToLevel, .changeFlavour: true
    case .operate, .heal, .terminate, .modifyInfo: false
    }
  }
}

/// SOL003 5.6.2.2.
public enum LcmOperationState: String, Sendable, Hashable, Codable, CaseIterable {
  case starting = "STARTING"
  case processing = "PROCESSING"
  case completed = "COMPLETED"
  case failedTemp = "FAILED_TEMP"
  case failed = "FAILED"
  case rollingBack = "ROLLING_BACK"
  case rolledBack = "ROLLED_BACK"

  /// Nothing follows an ended occurrence; an instance has at most one that is open.
  public var isEnded: Bool { self == .completed || self == .failed || self == .rolledBack }
}

/// How long one part of an operation took.
public struct OperationPhase: Sendable, Hashable, Codable {
  /// The action's name, such as `startWorkload`, or `commit`.
  public var name: String
  /// The workload, network or image it was about.
  public var subject: String
  /// Since the operation's start.
  public var startMicroseconds: Int64
  public var durationMicroseconds: Int64

  public init(
    name: String, subject: String, startMicroseconds: Int64, durationMicroseconds: Int64
  ) {
    self.name = name
    self.subject = subject
    self.startMicroseconds = startMicroseconds
    self.durationMicroseconds = durationMicroseconds
  }
}

/// An occurrence of a lifecycle operation (SOL003 5.5.2.13).
public struct VnfLcmOpOcc: Sendable, Hashable, Codable, Identifiable {
  public var id: VnfLcmOpOccID
  public var tenant: TenantID
  public var instance: VnfInstanceID
  public var operation: LcmOperationType
  public var state: LcmOperationState
  public var startTime: Timestamp
  public var stateEnteredTime: Timestamp
  /// Made by Martlet itself, such as a heal after a workload's end.
  public var isAutomatic: Bool
  /// Who asked: a user's name, a token's name, or `martlet`.
  public var actor: String
  /// The request's body as it came, without secrets.
  public var parameters: JSONValue
  public var error: NFVError?
  public var phases: [OperationPhase]
  /// The Vnfcs that the operation added, removed or changed (`resourceChanges`).
  public var affected: [AffectedVnfc]
  /// What a MODIFY_INFO changed, by attribute of the instance (`changedInfo`).
  public var changedInfo: [String: JSONValue]?

  public struct AffectedVnfc: Sendable, Hashable, Codable {
    public enum Change: String, Sendable, Hashable, Codable {
      case added = "ADDED"
      case removed = "REMOVED"
      case modified = "MODIFIED"
    }
    public var vnfc: VnfcID
    public var vdu: String
    public var change: Change

    public init(vnfc: VnfcID, vdu: String, change: Change) {
      self.vnfc = vnfc
      self.vdu = vdu
      self.change = change
    }
  }

  public init(
    id: VnfLcmOpOccID, tenant: TenantID, instance: VnfInstanceID, operation: LcmOperationType,
    state: LcmOperationState, startTime: Timestamp, isAutomatic: Bool = false, actor: String,
    parameters: JSONValue = .object([:])
  ) {
    self.id = id
    self.tenant = tenant
    self.instance = instance
    self.operation = operation
    self.state = state
    self.startTime = startTime
    self.stateEnteredTime = startTime
    self.isAutomatic = isAutomatic
    self.actor = actor
    self.parameters = parameters
    self.error = nil
    self.phases = []
    self.affected = []
  }
}
