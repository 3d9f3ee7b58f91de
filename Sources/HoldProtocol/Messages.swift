public import LinuxSystem

/// What the daemon asks of the hold.
public enum HoldRequest: Sendable, Hashable {
  /// The first of a connection; answered by `status`. Refused where the version is not known.
  case hello(version: UInt16)
  /// Answered by `status`.
  case status
  /// A user namespace of `users` and a network namespace that belongs to it, made by one clone and
  /// kept under `key`; without `users` the network namespace belongs to the host's user namespace.
  /// Answered by `descriptors`.
  case makeNamespaces(key: String, users: UserRange?, network: Bool)
  /// Answered by `spawned`.
  case spawn(SpawnRequest)
  /// Answered by `exited` when the process kept under the key has ended.
  case wait(key: String)
  /// By pidfd: never hits another process that got the same pid. Answered by `done`.
  case signal(key: String, number: Int32)
  /// Closes the holding's descriptors and forgets it; a process runs on. Answered by `done`.
  case release(key: String)
  /// Namespaces or a stored descriptor are kept under another key. Answered by `done`.
  case rename(key: String, to: String)
  /// The exit status has been taken note of: forgets the ended process. Answered by `done`.
  case acknowledge(key: String)
  /// Holdings whose keys follow `after`, in order. Answered by `holdings`.
  case list(after: String)
  /// Duplicates of the holding's descriptors. Answered by `descriptors`.
  case open(key: String)
  /// Keeps the one descriptor sent along. Answered by `done`.
  case store(key: String)
  /// Takes on a process that an earlier hold started. Answered by `spawned`.
  case adopt(key: String, ProcessIdentity)
  /// Bounds a log whose writer an earlier hold started, as long as `key` is held. Answered by
  /// `done`.
  case keepLog(key: String, path: String, limit: UInt64)
  /// The hold becomes the program at `path`, with all it keeps and all its connections. Answered
  /// by `status`, from the new program.
  case upgrade(path: String)
  /// The hold ends; refused while it keeps anything. Answered by `done`.
  case shutdown
}

/// What the hold answers.
public enum HoldReply: Sendable, Hashable {
  case done
  case status(HoldStatus)
  /// The roles of the descriptors sent along, in their order.
  case descriptors([DescriptorRole])
  case spawned(SpawnResult)
  case exited(ExitStatus)
  /// `more`: there are others after the last one.
  case holdings([Holding], more: Bool)
  case refused(HoldRefusal)
}

/// What the hold tells every connected client unasked.
public enum HoldEvent: Sendable, Hashable {
  /// A process that is held has ended; its status is kept until acknowledged.
  case exited(key: String, ExitStatus)
}

/// A packet of the hold: a reply to a request or an event.
public enum HoldMessage: Sendable, Hashable {
  case reply(id: UInt64, HoldReply)
  case event(HoldEvent)
}
