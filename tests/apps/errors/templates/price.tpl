<p>{{price.label}}</p>
