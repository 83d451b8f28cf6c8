ruby -e 'require "socket"; require "digest"; require "open3"; require "tempfile"
q=Queue.new; t=10.times.map{|i| Thread.new{ q << i*i }}; t.each(&:join); s=0; s+=q.pop until q.empty?; puts s
srv=TCPServer.new("127.0.0.1",0); th=Thread.new{ 5.times{|i| c=srv.accept; c.puts "hi #{i}"; c.close}}; 5.times{ c=TCPSocket.new("127.0.0.1",srv.addr[1]); puts c.gets; c.close}; th.join
puts Open3.capture2e("sh","-c","echo out; exit 4").inspect.sub(/pid \d+/,""); puts Digest::SHA256.hexdigest("x"*1000)
Tempfile.create("x"){|f| f.write "y"*10000; f.flush; puts File.size(f.path)}; pid=fork{ exit 9 }; Process.wait pid; puts $?.exitstatus
Signal.trap("USR1"){ puts "usr1" }; Process.kill("USR1",$$); sleep 0.05; exit 3'; echo $?
