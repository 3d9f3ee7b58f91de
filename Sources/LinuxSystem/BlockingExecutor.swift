import CLinux
import Glibc
import Synchronization

/// Threads that may block: tasks that prefer this executor run on them, so that system calls which
/// wait stay off the cooperative pool.
///
/// The threads live as long as the process; an executor is made once and kept.
public final class BlockingExecutor: TaskExecutor {
  private let queue = BlockingQueue<UnownedJob>()

  /// - Parameters:
  ///   - threads: how many jobs may block at once.
  ///   - name: the threads' name (prctl(2) PR_SET_NAME), at most 15 octets.
  public init(threads: Int, name: String) {
    for _ in 0..<max(1, threads) {
      startThread(name: name) { [queue, executor = asUnownedTaskExecutor()] in
        while let jobs = queue.next(limit: 1) {
          for job in jobs { job.runSynchronously(on: executor) }
        }
      }
    }
  }

  public func enqueue(_ job: consuming ExecutorJob) { queue.append(UnownedJob(job)) }
}

/// A queue whose readers block their threads until there is something.
public final class BlockingQueue<Element: Sendable>: @unchecked Sendable {
  // SAFETY (@unchecked Sendable): `elements` and `isClosed` are touched only while `mutex` is held;
  // mutex and condition are allocated once, never moved, and freed when nobody refers to the queue.
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>
  private var elements: [Element] = []
  private var isClosed = false

  public init() {
    mutex = .allocate(capacity: 1)
    condition = .allocate(capacity: 1)
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(condition, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  public func append(_ element: Element) {
    pthread_mutex_lock(mutex)
    if !isClosed { elements.append(element) }
    pthread_mutex_unlock(mutex)
    // Unlocked: who wakes on another processor would else wait for the lock.
    pthread_cond_signal(condition)
  }

  /// No more elements are taken; readers get what is left, then nil.
  public func close() {
    pthread_mutex_lock(mutex)
    isClosed = true
    pthread_cond_broadcast(condition)
    pthread_mutex_unlock(mutex)
  }

  /// Waits for elements and takes up to `limit` of them.
  /// - Parameter timeout: how long to wait; nil is for ever.
  /// - Returns: an empty array when the time was up, nil when the queue is closed and empty.
  public func next(limit: Int = .max, timeout: Duration? = nil) -> [Element]? {
    var deadline = timespec()
    if let timeout {
      clock_gettime(CLOCK_MONOTONIC, &deadline)
      let (seconds, attoseconds) = max(timeout, .zero).components
      let nanoseconds = deadline.tv_nsec + Int(attoseconds / 1_000_000_000)
      deadline.tv_sec += Int(min(seconds, 1 << 30)) + nanoseconds / 1_000_000_000
      deadline.tv_nsec = nanoseconds % 1_000_000_000
    }
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while elements.isEmpty {
      if isClosed { return nil }
      if timeout == nil {
        pthread_cond_wait(condition, mutex)
      } else if pthread_cond_timedwait(condition, mutex, &deadline) == ETIMEDOUT {
        return elements.isEmpty ? [] : take(limit)
      }
    }
    return take(limit)
  }

  private func take(_ limit: Int) -> [Element] {
    if elements.count <= limit {
      defer { elements = [] }
      return elements
    }
    let taken = Array(elements.prefix(limit))
    elements.removeFirst(limit)
    return taken
  }
}
