import CHosted
import Functions
import Replaying

// `replay CAPTURE` writes what a pipeline makes of a capture. `replay CAPTURE TIMES` writes in how
// many nanoseconds it decides on the last frame, mean of so many times.
@c(replay_main)
public func main(
  _ count: Int32, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
) -> Int32 {
  guard count > 1, let path = arguments[1] else { return 2 }
  var capture = [UInt8](repeating: 0, count: 32 << 20)
  let length = capture.withUnsafeMutableBufferPointer { buffer in
    CHosted_read(path, buffer.baseAddress, buffer.count)
  }
  guard length >= 0 else { return 1 }
  capture.removeLast(capture.count - length)
  var function = Pipeline()
  var replay = Replay()
  let last = replay.run(&function, over: capture)
  guard count > 2, let text = arguments[2] else {
    let output = replay.output
    output.withUnsafeBufferPointer { CHosted_output($0.baseAddress, $0.count) }
    return 0
  }
  let times = Int(atol(text))
  let start = CHosted_now()
  let sent = replay.repeatFrame(&function, of: capture, at: last, times: times)
  CHosted_outputNumber((CHosted_now() - start) / UInt64(max(1, times)))
  return sent == times ? 0 : 1
}
