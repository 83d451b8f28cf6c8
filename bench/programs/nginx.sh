# nginx over loopback: a file of 1 KiB to wrk's 32 connections.
mkdir -p /tmp/www && cd /tmp
head -c 1024 /dev/zero >www/page
cat >nginx.conf <<'C'
user root; worker_processes 1; daemon off; master_process off; pid /tmp/nginx.pid; error_log stderr crit;
events { worker_connections 512; }
http { access_log off; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f;
  uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s; server { listen 127.0.0.1:7002; root /tmp/www; } }
C
/usr/sbin/nginx -c /tmp/nginx.conf 2>/dev/null &
until curl -so /dev/null http://127.0.0.1:7002/page; do sleep 0.05; done
rate=$(wrk -t 1 -c 32 -d 2 http://127.0.0.1:7002/page | awk '$1 == "Requests/sec:" { print $2 }')
echo "nginx, 1 KiB|$rate|/s"
kill %1
wait
